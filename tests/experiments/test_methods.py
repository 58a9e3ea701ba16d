"""Every method under gradient caching: the gradients of one chunk, on both families, with both attentions, in two precisions."""

import pytest
import torch

from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.gaussian_decay import GaussianDecay
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.momentum_queue import MomentumQueue
from inbatch.losses.generative.masked_tokens import MaskedTokens
from inbatch.losses.generative.replaced_tokens import ReplacedTokens
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.dense import Dense, MLMTransform
from inbatch.models.heads.projectors import BatchNormProjector
from inbatch.models.heads.template_bias import TemplateBias
from inbatch.models.module import EmbeddingModule
from inbatch.models.networks.discriminator import Discriminator
from inbatch.models.networks.masked_lm import TinyGenerator, TinyHead
from inbatch.text.tokens import tokenize
from inbatch.views import Views

PROMPTS = {"query": 'it says "{text}" and {mask}.', "document": 'or "{text}" means {mask}.'}
# Of any entry of the gradient scaled to length 1. Measured: at most 3e-15, 6e-7 and 1.3e-2 over methods, families and attentions.
# The last is DiffCSE's: batch normalisation over few rows magnifies the rounding; without it 9e-3 is the most.
TOLERANCE = {"float64": 1e-13, "float32": 1e-6, "bfloat16": 3e-2}


def contrast(**options):
    return InfoNCE(1.0, **options)


def simcse(plain, kind):
    return Encoder(plain(), "mean", normalize=False), contrast(projector=Dense(32))


def simcse_mlm(plain, kind):
    terms = {"contrast": contrast(), "mlm": MaskedTokens(TinyHead(kind))}
    return Encoder(plain(), "mean", normalize=False), WeightedSum(terms, {"mlm": 0.1}, Dense(32))


def diffcse(plain, kind):
    rtd = ReplacedTokens(TinyGenerator(kind, dropout=False), Discriminator(plain(seed=3)))
    objective = WeightedSum({"contrast": contrast(), "rtd": rtd}, {"rtd": 0.5}, BatchNormProjector(32))
    return Encoder(plain(), "mean", normalize=False), objective


def promptbert(plain, kind):
    parts = {"head": MLMTransform(32), "correction": TemplateBias(after_head=True)}
    return Encoder(plain(), "mask", normalize=False, prompts=PROMPTS, **parts), contrast()


def promcse(plain, kind):
    terms = {"contrast": contrast(), "hinge": EnergyHinge()}
    return Encoder(plain(prefix=Prefix(4)), "mean", normalize=False), WeightedSum(terms, {"hinge": 10.0}, Dense(32))


def gcse(plain, kind):
    reference = Encoder(plain(seed=5), "mean").requires_grad_(False).eval()
    return Encoder(plain(), "mean", normalize=False), GaussianDecay(reference, sigma=5.0, projector=Dense(32))


def esimcse(plain, kind):
    return Encoder(plain(), "mean", normalize=False), MomentumQueue(8, 0.5, 1.0, Dense(32))


METHODS = [simcse, simcse_mlm, diffcse, promptbert, promcse, gcse, esimcse]
TEXTS = [[f"{role} {'long ' * i}{i}" for i in range(6)] for role in ("who", "what", "never")]


def spread(module):
    """Widen freshly drawn weights: as drawn, all sentences lie within 1e-4 of each other and float32 sees their rounding alone."""
    for part in module.modules():
        if isinstance(part, torch.nn.Linear):
            part.weight.data.mul_(10)


def gradients(method, kind, attention, precision, chunk_tokens):
    torch.manual_seed(0)
    encoder, objective = method(lambda **options: TinyRandom(kind, attention=attention, dropout=0.0, **options), kind)
    module = EmbeddingModule(encoder, objective, torch.optim.SGD, chunk_tokens=chunk_tokens)
    spread(module)
    if precision == "float64":
        module.double()
    module.log = lambda *_, **__: None
    sides = ("query", "document", "document")
    tokens = [tokenize(encoder.tokenizer, texts, 40, encoder.prompts[side]) for texts, side in zip(TEXTS, sides)]
    batch = Views(tokens[0], tokens[1], (tokens[2],))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for _ in range(2):  # the second step finds the first one's rows in a queue
            torch.manual_seed(1)  # the masks
            loss = module.training_step(batch, 0)
    loss.backward()
    return {name: p.grad for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_chunks_change_no_gradient(method, kind, attention, precision):
    one, many = (gradients(method, kind, attention, precision, budget) for budget in (None, 60))
    assert all((one[name] is None) == (many[name] is None) for name in one)
    one, many = (torch.cat([g.flatten() for g in grads.values() if g is not None]) for grads in (one, many))
    assert one.norm() > 0
    assert (one - many).abs().max() / one.norm() <= TOLERANCE[precision]
