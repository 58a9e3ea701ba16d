"""Objectives that decode texts on two ranks with unequal rows are those objectives on one: losses, numbers to log, gradients."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from ranks import on_ranks

from inbatch.losses.base import Objective
from inbatch.losses.generative.compression import InformationCompression
from inbatch.losses.generative.distribution_alignment import DistributionAlignment, facts_of
from inbatch.losses.generative.next_tokens import NextTokens
from inbatch.losses.generative.reference_scores import ReferenceScores, pair_keys
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.module import EmbeddingModule
from inbatch.models.networks.decoder import TinyDecoder
from inbatch.text.tokens import tokenize
from inbatch.views import Views

PROMPTS = {"query": "{text}\n{learned}", "document": "{text}{learned}"}
COUNTS = (4, 3)


def encoder_of(name: str) -> Encoder:
    torch.manual_seed(0)
    if name == "next tokens":
        return Encoder(TinyRandom("llama"), pooling="last")
    return Encoder(TinyRandom("llama", learned_tokens=2), pooling="learned", prompts=PROMPTS)


def objective_of(name: str, scores: Path) -> Objective:
    if name.startswith("compression"):
        return InformationCompression(TinyDecoder(), mean_by_rank=name == "compression by rank")
    return NextTokens() if name == "next tokens" else DistributionAlignment(TinyDecoder(), str(scores))


def batch_of(encoder: Encoder, rows: range) -> Views:
    views, ids = [], []
    for role in range(4):  # texts of unequal lengths, so that a mean of the ranks' means is not the mean
        texts = [f"{role} text {'on and on ' * (i % 3)}{i}" for i in rows]
        views.append(tokenize(encoder.tokenizer, texts, 40, encoder.prompts["document" if role else "query"]))
        ids.append(torch.tensor([100 * role + i for i in rows]))
    return Views(views[0], views[1], tuple(views[2:]), ids=Views(ids[0], ids[1], tuple(ids[2:])))


def step(rank: int, counts: tuple[int, ...], name: str, scores: Path):
    encoder = encoder_of(name)
    module = EmbeddingModule(encoder, objective_of(name, scores), partial(torch.optim.SGD, lr=1.0), chunk_tokens=60)
    first = sum(counts[:rank])
    loss = module.training_step(batch_of(encoder, range(first, first + counts[rank])), 0)
    loss.backward()
    gradients = {key: p.grad for key, p in encoder.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, module._pending[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["compression", "alignment", "next tokens"])
def test_two_ranks_equal_one(name, tmp_path):
    scores = tmp_path / "scores.safetensors"
    encoder = encoder_of("alignment")
    ids = batch_of(encoder, range(sum(COUNTS))).ids
    keys = torch.cat([pair_keys(ids.anchor, other) for other in (ids.positive, *ids.negatives)])
    facts = facts_of(encoder, TinyDecoder())
    ReferenceScores(keys, -10 - torch.arange(float(len(keys))), facts, str(scores)).save(scores)
    loss, gradients, logs = step(0, (sum(COUNTS),), name, scores)
    (one, ours, logged), (other, theirs, logged_too) = on_ranks(2, step, COUNTS, name, scores)
    torch.testing.assert_close((one + other) / 2, loss, rtol=1e-6, atol=1e-6)
    assert logged == logged_too
    assert logged["loss"] == pytest.approx(logs["loss"], rel=1e-6)
    assert gradients
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for key, gradient in gradients.items():
        assert ((ours[key] + theirs[key]) / 2 - gradient).abs().max() < 2e-6 * scale, key


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("counts", [(2, 5), (1, 6)])
def test_a_mean_by_rank_is_the_mean_of_what_each_rank_finds_by_itself(counts, tmp_path):
    name, total = "compression by rank", sum(counts)
    found = on_ranks(2, step, counts, name, tmp_path)
    alone = [one_rank(name, range(counts[0])), one_rank(name, range(counts[0], total))]
    for (loss, gradients, logged), (expected, own) in zip(found, alone):
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
        assert logged["loss"] == pytest.approx((alone[0][0] + alone[1][0]).item() / 2, rel=1e-6)
        scale = max(gradient.abs().max() for gradient in own.values())
        assert all((gradients[key] - own[key]).abs().max() < 2e-6 * scale for key in own)
    _, whole = one_rank("compression", range(total))
    apart = [((found[0][1][key] + found[1][1][key]) / 2 - whole[key]).norm() / whole[key].norm() for key in whole]
    assert max(apart) > 0.05, "one mean over all tokens is another one"
    torch.testing.assert_close(one_rank(name, range(total))[1], whole)


def one_rank(name: str, rows: range):
    """Loss and gradients of one process with these rows."""
    encoder = encoder_of(name)
    module = EmbeddingModule(encoder, objective_of(name, Path()), partial(torch.optim.SGD, lr=1.0), chunk_tokens=60)
    loss = module.training_step(batch_of(encoder, rows), 0)
    loss.backward()
    return loss.detach(), {key: p.grad for key, p in encoder.named_parameters() if p.grad is not None}
