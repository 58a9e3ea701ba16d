"""The first stage of AutoRegEmbed: its arithmetic by hand, chunks against the whole, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts, Encoded
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.generative.compression import InformationCompression, sequence_log_likelihood, targets_of
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.module import EmbeddingModule
from inbatch.models.networks.decoder import TinyDecoder
from inbatch.text.tokens import tokenize
from inbatch.views import Views

PROMPTS = {"query": "{text}\n{learned}", "document": "{text}{learned}"}


def encoder_of(**options) -> Encoder:
    torch.manual_seed(0)
    return Encoder(TinyRandom("llama", learned_tokens=2, **options), pooling="learned", prompts=PROMPTS)


def batch_of(encoder: Encoder, rows: int = 5):
    texts = [[f"{role} text {'on and on ' * (i % 3)}{i}" for i in range(rows)] for role in ("a", "b")]
    return Views(*(tokenize(encoder.tokenizer, texts[i], 40, PROMPTS[side]) for i, side in enumerate(PROMPTS)))


def test_the_log_likelihood_of_the_specification():
    logits = torch.tensor([[[0, 0, 0, 0], [2, 1, 0, -1], [0, 1, 2, 0], [1, 1, 1, 1]]], dtype=torch.float32)
    found = sequence_log_likelihood(logits, torch.tensor([[-100, -100, 0, 2]]))
    assert found.item() == pytest.approx(-0.934001, abs=5e-7)
    expected = logits[0, 1].log_softmax(0)[0] + logits[0, 2].log_softmax(0)[2]
    torch.testing.assert_close(found[0], expected)


def test_half_precision_logits_are_summed_in_float32():
    logits = torch.randn(2, 300, 7).bfloat16()
    labels = torch.randint(7, (2, 300))
    found = sequence_log_likelihood(logits, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), sequence_log_likelihood(logits.double(), labels), rtol=1e-5, atol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_targets_are_the_texts_themselves_and_their_end(side):
    encoder = encoder_of(padding_side=side)
    decoder = TinyDecoder()
    tokens = tokenize(encoder.tokenizer, ["abc", "a longer one"], 8, "It says: {text} so{learned}")
    targets = targets_of(tokens, decoder)
    for row, text in enumerate(["abc", "a longer"]):
        kept = targets.attention_mask[row].bool()
        ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert targets.input_ids[row][kept].tolist() == [*ids, decoder.tokenizer.eos_token_id]
        assert kept.tolist() == sorted(kept.tolist(), reverse=True), "padded on the right"


def test_one_mean_over_all_target_tokens_conditioned_on_the_states_alone():
    encoder, decoder = encoder_of().eval(), TinyDecoder()
    objective = InformationCompression(decoder)
    batch = batch_of(encoder)
    z, reads = encoder.read(batch.anchor, objective.reads)
    states = reads["states_at_learned"]
    objective.encodings = Views(Encoded(z, reads, batch.anchor.lengths), None)
    loss = objective(Views(z, None), batch, encoder).loss
    total, count = 0.0, 0
    for row in range(len(states)):
        text = targets_of(batch.positive.select(slice(row, row + 1)).trim(), decoder).input_ids[0]
        embedded = decoder.network.get_input_embeddings()(text)
        logits = decoder.network(inputs_embeds=torch.cat([states[row], embedded])[None]).logits[0]
        for place, token in enumerate(text.tolist()):
            total -= logits[len(states[row]) - 1 + place].log_softmax(0)[token]
            count += 1
    torch.testing.assert_close(loss, total / count, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_chunks_change_no_gradient(dtype):
    found = []
    for budget in (None, 60, 1):
        encoder = encoder_of(dropout=0.0)
        module = EmbeddingModule(
            encoder, InformationCompression(TinyDecoder()), lambda groups: torch.optim.SGD(groups), chunk_tokens=budget
        ).to(dtype)
        loss = module.training_step(batch_of(encoder), 0)
        loss.backward()
        found.append((loss.detach(), [p.grad for p in encoder.parameters()]))
        assert all(p.grad is None for p in module.objective.parameters()), "the decoder is frozen"
        assert all(gradient is not None and gradient.any() for gradient in found[-1][1])
    scale = torch.stack([gradient.norm() for gradient in found[0][1]]).norm()
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        for one, other in zip(gradients, found[0][1]):
            assert (one - other).abs().max() <= (1e-13 if dtype == torch.float64 else 1e-6) * scale


def test_only_the_anchors_are_embedded(monkeypatch):
    encoder = encoder_of()
    module = EmbeddingModule(encoder, InformationCompression(TinyDecoder()), lambda groups: torch.optim.SGD(groups))
    rows = []
    original = encoder.backbone.forward
    monkeypatch.setattr(
        encoder.backbone, "forward", lambda tokens, **kw: rows.append(len(tokens)) or original(tokens, **kw)
    )
    module.training_step(batch_of(encoder, 3), 0)
    assert rows == [3]


def test_a_decoder_keeps_its_mode_and_its_weights():
    assert not TinyDecoder().train().training
    decoder = TinyDecoder()
    decoder.dropout = True
    assert decoder.train().training
    assert not any(p.requires_grad for p in decoder.parameters())


def test_refusals():
    objective = InformationCompression(TinyDecoder())
    with pytest.raises(UsageError, match="an encoder with learned tokens and pooling `learned`"):
        objective.attach(Encoder(TinyRandom("llama"), pooling="last"))
    with pytest.raises(UsageError, match="hidden size 32, the encoder's; got 16"):
        InformationCompression(TinyDecoder(hidden_size=16)).attach(encoder_of())
    with pytest.raises(UsageError, match="objective.decoder to read the encoder's tokens"):
        InformationCompression(TinyDecoder("opt")).attach(encoder_of())
    endless = TinyDecoder()
    endless.tokenizer.eos_token = None
    with pytest.raises(UsageError, match="an end-of-text token"):
        InformationCompression(endless).attach(encoder_of())
    objective.attach(encoder_of())
    objective.check(BatchFacts(4, 0, False, lengths={"document": 509}))
    with pytest.raises(UsageError, match="expected a decoder with 513 positions, for 2 states.* it has 512"):
        objective.check(BatchFacts(4, 0, False, lengths={"document": 510}))
    with pytest.raises(UsageError, match="in a template"):
        targets_of(tokenize(TinyRandom("llama").tokenizer, ["x"]), TinyDecoder())


def test_a_sum_with_a_contrast_is_the_sum_of_both():
    """Each of them alone, on the same batch; the encoder runs once for both."""
    found = []
    for weights in ({}, {"contrast": 0.0}, {"compress": 0.0}):
        encoder = encoder_of(dropout=0.0)
        objective = WeightedSum({"compress": InformationCompression(TinyDecoder()), "contrast": InfoNCE()}, weights)
        module = EmbeddingModule(encoder, objective, lambda groups: torch.optim.SGD(groups), chunk_tokens=80)
        loss = module.training_step(batch_of(encoder), 0)
        loss.backward()
        found.append((loss.detach(), torch.cat([p.grad.flatten() for p in encoder.parameters()])))
    (both, gradient), *alone = found
    torch.testing.assert_close(both, sum(loss for loss, _ in alone))
    expected = sum(gradient for _, gradient in alone)
    assert (gradient - expected).abs().max() <= 1e-6 * expected.abs().max()
