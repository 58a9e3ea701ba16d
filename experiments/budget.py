"""How much training fits into a budget of time on this machine: the quick start asks before it begins."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inbatch.models.encoder import Encoder

# A batch below 513 pairs has too few negatives to show what they are for; one of 2,048 fits a laptop's memory.
FEWEST, MOST = 513, 2048
STEPS = (4, 32)
# Seconds of a run beside the network: starting, tokenizing, checkpoints, an export that is reloaded and compared, starting the search.
BESIDE = 40.0
# Tokens of a pair of the corpus as the quick start's settings cut it, padding included, where they have not been counted.
TOKENS_A_PAIR = 75.0
# Encoded without gradient: the held-out pairs before and after the training, and their documents, nearly all of a pair, for the search.
ENCODED_PAIRS = 3 * 2000
# Rows and tokens of the chunk that is timed.
_CHUNK = (32, 64)


@dataclass(frozen=True)
class Rates:
    """How fast a network runs here.

    Attributes:
        trained: tokens a second in chunks of gradient caching: forward, forward once more and backward, in the run's precision.
        encoded: tokens a second of embedding texts, in float32 whatever the run's precision.

    Example:
        >>> laptop = Rates(trained=1000.0, encoded=4000.0)
        >>> print(f"{2048 * TOKENS_A_PAIR / laptop.trained:.0f} s a step of 2,048 pairs")
        154 s a step of 2,048 pairs
    """

    trained: float
    encoded: float


@dataclass(frozen=True)
class Plan:
    """What is trained, and how long all of it is expected to take.

    Attributes:
        pairs: rows of a batch; all but one are the negatives of an anchor.
        steps: optimizer steps.
        training: seconds.
        encoding: seconds, before and after.
        budget: seconds that the plan was to fit into.
        spent: seconds of them that were over when it was made.

    Example:
        >>> plan = Plan(pairs=640, steps=4, training=192.0, encoding=112.5, budget=360.0)
        >>> plan.what
        '4 steps of 640 pairs, 639 in-batch negatives an anchor'
        >>> plan.seconds  # with 40 beside the network
        344.5
    """

    pairs: int
    steps: int
    training: float
    encoding: float
    budget: float
    spent: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.spent + self.training + self.encoding + BESIDE

    @property
    def what(self) -> str:
        """What is trained, in words."""
        return f"{self.steps} steps of {self.pairs:,} pairs, {self.pairs - 1:,} in-batch negatives an anchor"

    def describe(self) -> str:
        """Say what was planned, how long it takes, and what a faster machine would do."""
        return "\n".join(
            (
                f"plan          {self.what}",
                f"expected      {duration(self.seconds)}: {duration(self.training)} of training, {duration(self.encoding)} of evaluation and "
                f"search; the budget is {duration(self.budget)}",
                f"elsewhere     {self._elsewhere()}",
            )
        )

    def _elsewhere(self) -> str:
        if self.pairs == MOST:
            return f"a faster machine takes more steps, up to {STEPS[1]}; so does a larger --budget (minutes)"
        # All but the seconds beside the network shrinks on a faster machine.
        whole = (self.training * MOST * STEPS[0] / (self.pairs * self.steps) + self.encoding) / max(
            1.0, self.budget - self.spent - BESIDE
        )
        smallest = "this is the smallest plan; " if self.seconds > self.budget else ""
        return f"{smallest}a machine {whole:.1f} times as fast takes {STEPS[0]} steps of {MOST:,} pairs; so does a larger --budget (minutes)"


def fit_into(budget: float, rates: Rates, tokens_a_pair: float = TOKENS_A_PAIR, spent: float = 0.0) -> Plan:
    """Plan a quick start: more pairs first, up to 2,048, then more steps, up to 32.

    The smallest plan, 4 steps of 513 pairs, is taken where not even that fits.

    Args:
        budget: seconds for all.
        rates: of this machine.
        tokens_a_pair: mean number of tokens that a pair is computed with, padding included.
        spent: seconds of the budget that are over.

    Example:
        >>> rates = Rates(trained=1000.0, encoded=4000.0)
        >>> fit_into(360.0, rates).what
        '4 steps of 640 pairs, 639 in-batch negatives an anchor'
        >>> fit_into(3600.0, rates).what
        '22 steps of 2,048 pairs, 2,047 in-batch negatives an anchor'
    """
    encoding = ENCODED_PAIRS * tokens_a_pair / rates.encoded
    pairs = max(0.0, budget - spent - BESIDE - encoding) * rates.trained / tokens_a_pair
    size = min(MOST, max(FEWEST, int(pairs / STEPS[0]) // 64 * 64))
    steps = min(STEPS[1], max(STEPS[0], int(pairs / size)))
    return Plan(size, steps, size * steps * tokens_a_pair / rates.trained, encoding, budget, spent)


def measure(encoder: Encoder, precision: Any = "32-true") -> Rates:
    """Time one chunk of an encoder where it lies, forward and backward, after a smaller one that warms up.

    Args:
        encoder: with trainable weights; their gradients are cleared.
        precision: a value of the trainer's; mixed precisions are timed as such.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> rates = measure(Encoder(TinyRandom(num_layers=1)))
        >>> rates.encoded > rates.trained > 0  # embedding is the forward pass alone
        True
    """
    import torch

    device = encoder.device
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(precision))
    half = torch.bfloat16 if device.type == "cpu" and half is not None else half

    def seconds(rows: int, length: int, trained: bool, half: torch.dtype | None = half) -> float:
        batch = _random_batch(encoder, rows, length)
        _wait(device)
        start = time.perf_counter()
        mixed = torch.autocast(device.type, dtype=half) if half is not None else contextlib.nullcontext()
        with torch.set_grad_enabled(trained):
            with mixed:
                z = encoder(batch)
            if trained:
                z.float().sum().backward()
        _wait(device)
        return time.perf_counter() - start

    modes = [(part, part.training) for part in encoder.modules()]
    encoder.train()
    try:
        seconds(4, _CHUNK[1], trained=True)
        encoded = seconds(*_CHUNK, trained=False, half=None)
        # The same pass once more, where the run computes as the encoder does.
        forward = encoded if half is None else seconds(*_CHUNK, trained=False)
        both = seconds(*_CHUNK, trained=True)
    finally:
        for part, training in modes:
            part.training = training
        encoder.zero_grad(set_to_none=True)
    tokens = math.prod(_CHUNK)
    return Rates(tokens / (forward + both), tokens / encoded)


def _random_batch(encoder: Encoder, rows: int, length: int) -> Any:
    import torch

    from inbatch.views import TokenBatch

    vocabulary = encoder.backbone.config.get_text_config().vocab_size
    drawn = torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))
    return TokenBatch(drawn, torch.ones_like(drawn)).to(encoder.device)


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def duration(seconds: float) -> str:
    """Write seconds as ``5 min 03 s`` or ``41 s``.

    Example:
        >>> duration(303.4), duration(41)
        ('5 min 03 s', '41 s')
    """
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"
