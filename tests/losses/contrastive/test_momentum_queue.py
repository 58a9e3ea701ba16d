"""ESimCSE's queue: first in, first out; averages that follow; a checkpoint that holds both."""

import pytest
import torch
from contract import contract
from torch.nn.functional import cross_entropy, normalize

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.momentum_queue import MomentumQueue
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.dense import Dense
from inbatch.models.heads.template_bias import TemplateBias
from inbatch.text.tokens import tokenize
from inbatch.views import Views


def setting(size=10, momentum=0.5, projector=True):
    torch.manual_seed(0)
    encoder = Encoder(TinyRandom(dropout=0.0), pooling="cls", normalize=False)
    objective = MomentumQueue(size, momentum, 0.1, Dense(32) if projector else None)
    objective.attach(encoder)
    return encoder, objective.train()


def batch(encoder, step, rows=4):
    return Views(*(tokenize(encoder.tokenizer, [f"{role} {10 * step + i}" for i in range(rows)]) for role in "ab"))


def test_the_first_step_has_no_queue_and_the_second_has_the_first_ones_anchors():
    encoder, objective = setting()
    first, second = batch(encoder, 0), batch(encoder, 1)
    z = first.map(encoder)
    plain = InfoNCE(0.1, projector=objective.projector)(z, first, encoder).loss
    assert torch.allclose(objective(z, first, encoder).loss, plain)
    held = normalize(objective.projector(encoder(first.anchor)), dim=-1)
    assert torch.allclose(objective.queue[:4], held, atol=1e-6)
    assert int(objective.filled) == 4
    z = second.map(lambda t: normalize(objective.projector(encoder(t)), dim=-1))
    keys = torch.cat([z.positive, held])
    output = objective(second.map(encoder), second, encoder)
    found = output.loss
    assert output.logs["queued"] == 4  # when the loss was computed
    assert torch.allclose(found, cross_entropy(10 * z.anchor @ keys.T, torch.arange(4)), rtol=1e-4)


def test_the_oldest_go_first():
    encoder, objective = setting(size=6)
    for step in range(3):
        tokens = batch(encoder, step)
        objective(tokens.map(encoder), tokens, encoder)
    expected = torch.cat([encoder(batch(encoder, step).anchor) for step in (1, 2)])[-6:]
    assert torch.allclose(objective.queue, normalize(objective.projector(expected), dim=-1), atol=1e-6)
    assert int(objective.filled) == 6


def test_the_queue_is_as_wide_as_what_the_projector_gives():
    encoder, objective = setting()
    objective = MomentumQueue(5, projector=torch.nn.Sequential(torch.nn.Linear(32, 16), torch.nn.Tanh()))
    objective.attach(encoder)
    tokens = batch(encoder, 0)
    objective(tokens.map(encoder), tokens, encoder)
    assert tuple(objective.queue.shape) == (5, 16)
    assert objective.queue[:4].norm(dim=1).allclose(torch.ones(4))


def test_the_averages_follow_slowly_and_without_gradient():
    encoder, objective = setting(momentum=0.75)
    before = [p.clone() for p in encoder.parameters()]
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(1.0)
    tokens = batch(encoder, 0)
    objective(tokens.map(encoder), tokens, encoder)
    for old, held in zip(before, objective.average[0].parameters()):
        assert torch.allclose(held, old + 0.25, atol=1e-6)
        assert not held.requires_grad
    assert not any(module.training for module in objective.average.modules())
    assert {name for name, p in objective.named_parameters() if p.requires_grad} == {
        "projector.linear.weight", "projector.linear.bias",
    }  # fmt: skip


def test_a_text_in_the_queue_is_no_negative_of_itself():
    encoder, objective = setting(projector=False)
    tokens = batch(encoder, 0)
    ids = Views(torch.arange(4), torch.arange(4) + 100)
    z = tokens.map(encoder)
    objective(Views(*z, ids=ids), tokens, encoder)
    again = objective(Views(*z, ids=ids), tokens, encoder).loss
    n = z.map(lambda v: normalize(v, dim=-1))
    logits = 10 * n.anchor @ torch.cat([n.positive, n.anchor]).T
    logits[torch.arange(4), 4 + torch.arange(4)] = -torch.inf
    assert torch.allclose(again, cross_entropy(logits, torch.arange(4)), rtol=1e-4)


def test_a_checkpoint_holds_queue_and_averages():
    encoder, objective = setting()
    tokens = batch(encoder, 0)
    objective(tokens.map(encoder), tokens, encoder)
    encoder_again, again = setting()
    again.load_state_dict(objective.state_dict())
    z = batch(encoder, 1)
    assert torch.equal(objective(z.map(encoder), z, encoder).loss, again(z.map(encoder_again), z, encoder_again).loss)


def test_half_precision_weights_are_refused_before_the_first_step():
    _, objective = setting()
    facts = BatchFacts(rows=4, negatives=0, scored=False)
    objective.check(facts)
    with pytest.raises(UsageError, match="weights in float32 or float64; got bfloat16.*Set trainer.precision"):
        objective.to(torch.bfloat16).check(facts)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="queue_size >= 1 and momentum"):
        MomentumQueue(0)
    prompts = {"query": "{text} {mask}", "document": "{text}: {mask}"}
    encoder = Encoder(TinyRandom(), pooling="mask", prompts=prompts, correction=TemplateBias())
    with pytest.raises(UsageError, match="an encoder without a correction"):
        MomentumQueue(4).attach(encoder)


TestContract = contract(lambda: MomentumQueue(9, 0.5, 0.1), settings={"queue_size": 9})
