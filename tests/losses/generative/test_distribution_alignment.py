"""The second stage of AutoRegEmbed: the specification's numbers, chunks against the whole, and its table of reference scores."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import tensor

from inbatch.errors import MissingError, UsageError
from inbatch.losses.base import BatchFacts, Encoded
from inbatch.losses.generative.distribution_alignment import DistributionAlignment, alignment_loss, facts_of
from inbatch.losses.generative.reference_scores import ReferenceScores, pair_keys
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.module import EmbeddingModule
from inbatch.models.networks.decoder import TinyDecoder
from inbatch.text.tokens import tokenize
from inbatch.views import Views

PROMPTS = {"query": "{text}\n{learned}", "document": "{text}{learned}"}
ROWS = {
    "positive": tensor([-20.0, -15.0]),
    "itself": tensor([-12.0, -14.0]),
    "negatives": tensor([[-30.0], [-16.0]]),
    "reference_positive": tensor([-22.0, -18.0]),
    "reference_negatives": tensor([[-28.0], [-17.0]]),
}


def encoder_of(**options) -> Encoder:
    torch.manual_seed(0)
    return Encoder(TinyRandom("llama", learned_tokens=2, **options), pooling="learned", prompts=PROMPTS)


def batch_of(encoder: Encoder, rows: int = 4, negatives: int = 2):
    texts = [[f"{role} text {'on and on ' * (i % 3)}{i}" for i in range(rows)] for role in range(2 + negatives)]
    anchor, positive, *rest = (
        tokenize(encoder.tokenizer, role, 40, PROMPTS["document" if i else "query"]) for i, role in enumerate(texts)
    )
    ids = [torch.arange(rows) + 100 * role for role in range(2 + negatives)]
    return Views(anchor, positive, tuple(rest), ids=Views(ids[0], ids[1], tuple(ids[2:])))


def scores_for(batch, encoder, path: Path) -> str:
    pairs = [(a, o) for other in (batch.ids.positive, *batch.ids.negatives) for a, o in zip(batch.ids.anchor, other)]
    anchors, others = (torch.stack(column) for column in zip(*pairs))
    values = -10 - torch.arange(len(pairs), dtype=torch.float32)
    facts = {**facts_of(encoder, TinyDecoder()), "max_length": "", "precision": ""}
    ReferenceScores(pair_keys(anchors, others), values, facts, str(path)).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("sign", "s2", "each", "mean"),
    [
        ("minus", [0.598688, 0.549834], [1.250320, 0.576575], 0.913447),
        ("plus", [0.832018, 0.500000], [0.216407, 0.825822], 0.521115),
    ],
)
def test_the_numbers_of_the_specification(sign, s2, each, mean):
    losses = alignment_loss(**ROWS, beta=0.1, temperature=0.1, sign=sign)
    assert losses.tolist() == pytest.approx(each, abs=1e-6)
    assert losses.mean().item() == pytest.approx(mean, abs=1e-6)
    # What the two logistic functions are, read off the loss: softplus inverted.
    s1 = tensor([0.689974, 0.524979])
    assert (s1 - 0.1 * losses.expm1().log()).tolist() == pytest.approx(s2, abs=2e-6)


@pytest.mark.parametrize(("sign", "mean"), [("minus", 0.243928), ("plus", 0.675465)])
def test_beta_and_temperature_are_not_swapped_and_the_distance_is_absolute(sign, mean):
    rows = {**ROWS, "positive": tensor([-12.0, -15.0]), "itself": tensor([-20.0, -14.0])}
    assert alignment_loss(**rows, beta=0.2, temperature=0.05, sign=sign).mean().item() == pytest.approx(mean, abs=1e-6)


def test_several_negatives_jointly_and_one_by_one():
    rows = {
        **ROWS,
        "negatives": tensor([[-30.0, -21.0], [-16.0, -14.0]]),
        "reference_negatives": tensor([[-28.0, -30], [-17.0, -9]]),
    }
    joint = alignment_loss(**rows, beta=0.1, temperature=0.1)
    single = [
        alignment_loss(
            **{**rows, **{n: rows[n][:, k : k + 1] for n in ("negatives", "reference_negatives")}},
            beta=0.1,
            temperature=0.1,
        )
        for k in range(2)
    ]
    torch.testing.assert_close(
        alignment_loss(**rows, beta=0.1, temperature=0.1, joint=False), (single[0] + single[1]) / 2
    )
    torch.testing.assert_close(joint, (1 + single[0].expm1() + single[1].expm1()).log())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("joint", [True, False])
def test_chunks_change_no_gradient(dtype, joint, tmp_path):
    found = []
    path = scores_for(batch_of(encoder_of()), encoder_of(), tmp_path / "scores.safetensors")
    for budget in (None, 80, 1):
        encoder = encoder_of(dropout=0.0)
        objective = DistributionAlignment(TinyDecoder(), path, joint_negatives=joint)
        module = EmbeddingModule(encoder, objective, lambda groups: torch.optim.SGD(groups), chunk_tokens=budget).to(
            dtype
        )
        loss = module.training_step(batch_of(encoder), 0)
        loss.backward()
        found.append((loss.detach(), [p.grad for p in encoder.parameters()]))
        assert all(gradient is not None and gradient.any() for gradient in found[-1][1])
    scale = torch.stack([gradient.norm() for gradient in found[0][1]]).norm()
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        for one, other in zip(gradients, found[0][1]):
            assert (one - other).abs().max() <= (1e-13 if dtype == torch.float64 else 2e-6) * scale


def test_each_text_is_scored_behind_the_right_states(tmp_path):
    encoder = encoder_of().eval()
    batch = batch_of(encoder)
    decoder = TinyDecoder()
    objective = DistributionAlignment(decoder, scores_for(batch, encoder, tmp_path / "s.safetensors"))
    objective.attach(encoder)
    read = [encoder.read(view, objective.reads) for view in (batch.anchor, batch.positive)]
    z = [reads["states_at_learned"] for _, reads in read]
    encoded = [Encoded(vector, reads, batch.anchor.lengths) for vector, reads in read]
    objective.encodings = Views(*encoded, (None, None))
    output = objective(Views(*(e.vector for e in encoded), (None, None)), batch, encoder)

    def score(states, view):
        total = []
        for row in range(len(states)):
            start, stop = view.slots["text"][row]
            text = [*view.input_ids[row, start:stop].tolist(), decoder.tokenizer.eos_token_id]
            embedded = decoder.network.get_input_embeddings()(tensor(text))
            logits = decoder.network(inputs_embeds=torch.cat([states[row], embedded])[None]).logits[0]
            total.append(sum(logits[1 + i].log_softmax(0)[t] for i, t in enumerate(text)))
        return torch.stack(total)

    negatives = torch.stack([score(z[0], view) for view in batch.negatives], 1)
    reference = ReferenceScores.load(objective.reference).of(batch.ids)
    assert reference[:, 0].tolist() == [-10, -11, -12, -13]
    expected = alignment_loss(
        score(z[0], batch.positive),
        score(z[1], batch.positive),
        negatives,
        reference[:, 0],
        reference[:, 1:],
        beta=0.1,
        temperature=0.1,
    )
    torch.testing.assert_close(output.loss, expected.mean(), rtol=1e-4, atol=1e-5)


def test_scores_are_found_by_text_in_any_order(tmp_path):
    anchors, others = torch.randint(2**62, (2, 1000))
    keys = pair_keys(anchors, others)
    table = ReferenceScores(keys, torch.arange(1000.0), {"query": "q"}, "here")
    table.save(tmp_path / "t.safetensors")
    loaded = ReferenceScores.load(tmp_path / "t.safetensors")
    order = torch.randperm(1000)
    there, found = loaded.find(keys[order])
    assert there.all()
    assert torch.equal(found, torch.arange(1000.0)[order])
    assert not loaded.find(pair_keys(others, anchors))[0].any(), "a pair has a direction"
    assert loaded.facts == {"query": "q"}
    empty = ReferenceScores(keys[:0], found[:0], {}, "here")
    assert not empty.find(keys)[0].any()


def test_refusals(tmp_path):
    encoder = encoder_of()
    batch = batch_of(encoder)
    pairs = torch.stack([batch.ids.anchor, batch.ids.positive, torch.zeros(4, dtype=torch.int64)], 1)
    path = scores_for(batch, encoder, tmp_path / "scores.safetensors")
    facts = BatchFacts(4, 1, False, lambda: pairs)

    def objective(reference=path, **options):
        made = DistributionAlignment(TinyDecoder(), reference, **options)
        made.attach(encoder)
        return made

    objective().check(facts)
    with pytest.raises(MissingError, match="inbatch synthesize reference-scores"):
        objective(str(tmp_path / "none.safetensors")).check(facts)
    with pytest.raises(UsageError, match="1 of 5 have none"):
        objective().check(BatchFacts(4, 1, False, lambda: torch.cat([pairs, tensor([[7, 7, 0]])])))
    with pytest.raises(UsageError, match="expects a hard negative in every row"):
        objective().check(BatchFacts(4, 0, False, lambda: pairs))
    with pytest.raises(UsageError, match="a column of the source was read as scores"):
        objective().check(BatchFacts(4, 1, True, lambda: pairs))
    other = encoder_of()
    other.backbone.learned_tokens.table.data.normal_()
    changed = DistributionAlignment(TinyDecoder(), path)
    changed.attach(other)
    with pytest.raises(UsageError, match="made with encoder = "):
        changed.check(facts)
    with pytest.raises(UsageError, match="Set data.ids to text"):
        objective().check(BatchFacts(4, 1, False, lambda: pairs, by_text=False))
    with pytest.raises(UsageError, match="Set data.repetition and data.edits to null"):
        objective().check(BatchFacts(4, 1, False, lambda: pairs, altered=True))
    with pytest.raises(UsageError, match="made with max_length = 'query 9'"):
        objective().check(BatchFacts(4, 1, False, lambda: pairs, lengths={"query": 9}))
    with pytest.raises(UsageError, match="made with precision = 'bf16-mixed'"):
        objective().check(BatchFacts(4, 1, False, lambda: pairs, precision="bf16-mixed"))
    with pytest.raises(UsageError, match="expected a decoder with 514 positions"):
        objective().check(BatchFacts(4, 1, False, lambda: pairs, lengths={"document": 511}))
    (tmp_path / "text.safetensors").write_text("no scores")
    with pytest.raises(UsageError, match=r"expected reference scores in .*text.safetensors"):
        objective(str(tmp_path / "text.safetensors")).check(facts)
    import safetensors.torch

    safetensors.torch.save_file(
        {"keys": pairs[:, 0].contiguous(), "scores": torch.zeros(4)}, tmp_path / "old.safetensors"
    )
    with pytest.raises(UsageError, match="of format 1"):
        objective(str(tmp_path / "old.safetensors")).check(facts)
    for options, name in (({"beta": 0.0}, "beta"), ({"temperature": math.nan}, "temperature")):
        with pytest.raises(UsageError, match=f"finite {name} > 0; got .* Set objective.{name}"):
            DistributionAlignment(TinyDecoder(), path, **options)
    with pytest.raises(UsageError, match="reference_sign to be minus or plus"):
        DistributionAlignment(TinyDecoder(), path, reference_sign="paper")  # type: ignore[arg-type]
