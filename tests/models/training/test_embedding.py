"""One pass of the encoder gives embeddings and reads: in chunks as without, with gradient, and to those alone that asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from modules import batches, module_of, train
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.losses.base import Encoded, LossOutput, Objective
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.training.embedding import embed_views, handed, number_views
from inbatch.text.tokens import tokenize
from inbatch.views import TokenBatch, Views

NAMES = ("layers", "layer:1", "tokens", "attentions:-1")


class Reading(Objective):
    """A stand-in that mixes all that it reads into its loss, by weights that tell places apart."""

    def __init__(self, *reads: str) -> None:
        super().__init__()
        self.reads = frozenset(reads)
        self.seen: list[Views[Encoded]] = []

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        assert self.encodings is not None
        self.seen.append(self.encodings.map(lambda e: Encoded(e.vector.detach(), dict(e.reads), e.lengths)))
        total: Any = sum(view.square().sum() for view in z)
        for encoded, view in zip(self.encodings, tokens):
            assert torch.equal(encoded.lengths, view.lengths)
            for read in encoded.reads.values():
                assert view.input_ids.shape[1] == read.shape[-2]
                weight = torch.linspace(-1, 2, read[0].numel(), dtype=read.dtype).view(read.shape[1:])
                total = total + (read.square() * weight).sum() / 100
        return LossOutput(total)


def encoder_of(kind: str = "bert", pooling: str = "mean", dtype: str = "float64", **options: Any) -> Encoder:
    return Encoder(TinyRandom(kind, dtype=dtype, **options), pooling=pooling).eval()  # type: ignore[arg-type]


def views_of(encoder: Encoder, texts: list[str]) -> Views[TokenBatch]:
    sides = (texts, [text[:9] for text in texts], texts[::-1])
    anchor, positive, negative = (tokenize(encoder.tokenizer, side, 60) for side in sides)
    return number_views(Views(anchor, positive, (negative,)))


def step(
    encoder: Encoder, objective: Objective, batch: Views[TokenBatch], budget: int | None
) -> tuple[Tensor, dict[str, Tensor]]:
    encoder.zero_grad()
    embedded = embed_views(encoder, objective, batch, budget)
    with handed(objective, embedded.encodings):
        loss = objective(embedded.z, batch, encoder).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "mean"), ("bert", "first_last"), ("llama", "last")])
def test_chunks_read_what_the_whole_batch_reads_with_its_gradient(kind: str, pooling: str, texts: list[str]):
    # transformers' eager attention of a decoder computes its softmax in float32, which a mask in float64 overflows.
    names = NAMES if kind == "bert" else NAMES[:3]
    encoder = encoder_of(kind, pooling, attention="eager" if kind == "bert" else "sdpa")
    batch = views_of(encoder, texts)
    whole, chunks = Reading(*names), Reading(*names)
    loss, gradient = step(encoder, whole, batch, None)
    cached, same = step(encoder, chunks, batch, 70)
    torch.testing.assert_close(cached, loss, rtol=1e-12, atol=1e-12)
    assert gradient.keys() == same.keys()
    for name, value in gradient.items():
        torch.testing.assert_close(same[name], value, rtol=1e-9, atol=1e-11, msg=name)
    for one, other in zip(whole.seen[0], chunks.seen[0]):
        assert list(one.reads) == sorted(names)
        for name in names:
            torch.testing.assert_close(other.reads[name], one.reads[name], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("kind", "dtype"), [("bert", "float64"), ("llama", "float32")])
def test_reads_of_a_view_are_those_of_its_own_tokens(kind: str, dtype: str, texts: list[str]):
    encoder, objective = encoder_of(kind, dtype=dtype, attention="eager"), Reading(*NAMES)
    batch = views_of(encoder, texts)
    step(encoder, objective, batch, 70)
    for encoded, view in zip(objective.seen[0], batch):
        z, alone = encoder.read(view, NAMES)
        torch.testing.assert_close(encoded.vector, z)
        own = view.attention_mask.bool()
        for name, read in encoded.reads.items():
            kept = own[:, None, :, None] if read.ndim == 4 else own[..., None]
            kept = kept & own[:, None, None, :] if name.startswith("attentions") else kept
            torch.testing.assert_close(read, alone[name].masked_fill(~kept, 0.0))


def test_states_at_learned_tokens_and_reads_come_from_one_pass(texts: list[str]):
    prompts = {"query": "{text} is{learned}", "document": "{text}{learned}"}
    backbone = TinyRandom("llama", learned_tokens=2, dtype="float64")
    encoder = Encoder(backbone, "learned", prompts=prompts).eval()
    tokens = tokenize(encoder.tokenizer, texts, 20, prompts["query"])
    found = embed_views(encoder, Reading("tokens", "states_at_learned"), Views(tokens, tokens), 50)
    assert found.encodings is not None
    encoded = found.encodings.positive
    torch.testing.assert_close(encoded.reads["states_at_learned"], encoder.at_learned(tokens))
    torch.testing.assert_close(encoded.vector, encoder(tokens))
    assert torch.equal(encoded.vector, found.z.positive)


def test_a_term_reads_of_the_views_that_it_sees(texts: list[str]):
    first, second, inner = Reading("tokens"), Reading("tokens"), Reading("tokens")
    nested = WeightedSum({"inner": inner}, views={"inner": ["positive", "anchor"]})
    terms, views = {"first": first, "second": second, "nested": nested}, ["negative_1", "positive"]
    encoder = encoder_of()
    step(encoder, WeightedSum(terms, views={"first": views, "nested": views}), views_of(encoder, texts), 70)
    whole, (seen,) = second.seen[0], first.seen
    assert len(seen) == 2
    for mine, view in zip(seen, (whole.negatives[0], whole.positive)):
        assert torch.equal(mine.reads["tokens"], view.reads["tokens"])
    assert torch.equal(inner.seen[0].anchor.reads["tokens"], whole.positive.reads["tokens"])
    assert torch.equal(inner.seen[0].positive.reads["tokens"], whole.negatives[0].reads["tokens"])


def test_nothing_is_kept_when_nothing_is_asked_for(texts: list[str]):
    encoder, objective = encoder_of(), InfoNCE()
    batch = views_of(encoder, texts)
    embedded = embed_views(encoder, objective, batch, 70)
    assert embedded.encodings is None
    assert embedded.count == 3
    with handed(objective, None):
        assert objective.encodings is None


def test_views_that_are_not_embedded_are_not_read(texts: list[str]):
    encoder, objective = encoder_of(), Reading("tokens")
    batch = views_of(encoder, texts)
    objective.encoded = 1
    embedded = embed_views(encoder, objective, batch, None)
    assert embedded.z.positive is None
    assert embedded.encodings.positive is None  # type: ignore[union-attr]
    with handed(objective, embedded.encodings):
        assert list(objective.encodings) != [None] * 3  # type: ignore[arg-type]
        assert objective.encodings.negatives == (None,)  # type: ignore[union-attr]
    objective.encoded = 0
    nothing = embed_views(encoder, objective, batch, None)
    assert (list(nothing.z), nothing.encodings, nothing.count) == ([None] * 3, None, 0)


def test_each_term_is_handed_what_it_asked_for_and_gives_it_back(texts: list[str]):
    first, second, third = Reading("tokens"), Reading("layer:0", "tokens"), InfoNCE()
    objective = WeightedSum({"first": first, "second": second, "third": third})
    encoder = encoder_of()
    step(encoder, objective, views_of(encoder, texts), 70)
    assert list(first.seen[0].anchor.reads) == ["tokens"]
    assert list(second.seen[0].anchor.reads) == ["layer:0", "tokens"]
    assert first.encodings is second.encodings is third.encodings is None


def test_a_term_is_handed_the_views_that_it_chooses(texts: list[str]):
    chosen, whole = Reading("tokens"), Reading("tokens")
    objective = WeightedSum({"a": chosen, "b": whole}, views={"a": ["negative_1", "anchor"]})
    encoder = encoder_of()
    step(encoder, objective, views_of(encoder, texts), 70)
    negative, anchor = chosen.seen[0]
    assert torch.equal(negative.vector, whole.seen[0].negatives[0].vector)
    assert torch.equal(anchor.vector, whole.seen[0].anchor.vector)


def test_a_run_trains_through_what_it_reads(tmp_path: Path):
    ends = []
    for chunk_tokens in (None, 30):
        encoder = Encoder(TinyRandom(num_layers=1, dropout=0.0, dtype="float64"))
        objective = Reading("layer:0", "attentions:1")
        module = module_of(encoder, objective, chunk_tokens=chunk_tokens)
        train(module, tmp_path, max_steps=2)
        assert len(objective.seen) == 2
        ends.append(module.state_dict())
    start = Encoder(TinyRandom(num_layers=1, dropout=0.0, dtype="float64")).state_dict()
    moved = "backbone.model.embeddings.word_embeddings.weight"
    assert not torch.allclose(start[moved], ends[0][f"encoder.{moved}"])
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key], atol=1e-10, rtol=1e-8)


def test_reads_that_the_backbone_cannot_give_are_refused_when_the_module_is_built():
    with pytest.raises(UsageError, match=r"Reading expects reads of .*got 'layer:9'. Set its reads"):
        module_of(objective=WeightedSum({"a": Reading("layer:9")}))


def test_views_are_numbered_in_their_order():
    (batch,) = batches(Encoder(TinyRandom(num_layers=1)), count=1, rows=2, negatives=2)
    assert [view.view.tolist() for view in number_views(batch)] == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert batch.anchor.view is None
