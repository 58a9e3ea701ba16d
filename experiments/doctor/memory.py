"""The memory of a step as a function of its sizes: what can be counted, and what rehearsals add to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from inbatch.experiments.doctor.rehearsal import Held
from inbatch.kernels.infonce.selection import backend_of


@dataclass(frozen=True)
class Shape:
    """The sizes of one step on one rank.

    Attributes:
        rows: of this rank's slice of the batch.
        batch: rows of all ranks together.
        views: texts a row.
        dim: of an embedding.
        longest: tokens kept of a text, at most.
        tokens: of this rank's texts, if all are that long.
        mean_length: tokens of a text on average, in a sample.
        ranks: of the run; local_ranks: on one machine.

    Example:
        >>> shape = Shape(rows=16, batch=32, views=2, dim=384, longest=64, tokens=2048, mean_length=20.0, ranks=2, local_ranks=2)
        >>> shape.rows * shape.views * shape.longest == shape.tokens, shape.rows * shape.ranks == shape.batch
        (True, True)
    """

    rows: int
    batch: int
    views: int
    dim: int
    longest: int
    tokens: int
    mean_length: float
    ranks: int
    local_ranks: int


@dataclass(frozen=True)
class Memory:
    """Bytes that one rank needs at once, by what needs them.

    Example:
        >>> Memory(weights=90, gradients=90, optimizer=180, activations=400, embeddings=5, loss=35, program=200).total
        1000
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    embeddings: int
    loss: int
    program: int

    @property
    def total(self) -> int:
        """The sum."""
        return sum(dataclasses.astuple(self))


@dataclass(frozen=True)
class Line:
    """Bytes that the tensors of a step hold at once: what the optimizer's step needs, or a chunk and the embeddings of all texts.

    Attributes:
        fixed: whatever the sizes are, gradients and the optimizer's state among it.
        token: for each padded token of a chunk.
        text: for each text of the batch.
        update: in the optimizer's step.

    Example:
        >>> line = Line(fixed=1000.0, token=7.0, text=3.0, update=900.0)
        >>> line.at(tokens=100, texts=10), line.at(tokens=0, texts=0)
        (1730.0, 1000.0)
    """

    fixed: float
    token: float
    text: float
    update: float

    def at(self, tokens: float, texts: float) -> float:
        """Return the bytes for chunks of so many tokens, in a batch of so many texts."""
        return max(self.update, self.fixed + self.token * tokens + self.text * texts)


@dataclass(frozen=True)
class Rehearsed:
    """What rehearsals of a run say.

    Attributes:
        line: of the tensors that a step makes.
        factor: by which the process grows beyond them; 1 on a GPU.
        program: bytes of the process before the first step, weights included; 0 on a GPU.
        start: its peak up to there.
        tokens: of the largest chunk that was rehearsed.

    Example:
        >>> line = Line(fixed=1000.0, token=7.0, text=3.0, update=900.0)
        >>> rehearsed = Rehearsed(line, factor=1.5, program=5000, start=5000, tokens=512)
        >>> rehearsed.program + rehearsed.factor * rehearsed.line.at(tokens=100, texts=10)  # bytes of the process
        7595.0
    """

    line: Line
    factor: float
    program: int
    start: int
    tokens: int


def at_once(shape: Shape, chunk: int | None) -> int:
    """Return the padded tokens of a chunk; the whole batch's where it is smaller.

    Example:
        >>> shape = Shape(rows=16, batch=16, views=2, dim=384, longest=64, tokens=2048, mean_length=20.0, ranks=1, local_ranks=1)
        >>> at_once(shape, 512), at_once(shape, 4096), at_once(shape, 16)  # a chunk holds a text at least
        (512, 2048, 64)
    """
    return shape.tokens if chunk is None else min(shape.tokens, max(chunk, shape.longest))


def memory_of(
    module: Any, shape: Shape, device: torch.device, chunk: int | None, rehearsed: Rehearsed | None
) -> Memory:
    """Add up what one rank needs at once.

    Args:
        module: the built `EmbeddingModule`, in its precision.
        shape: sizes of a step.
        device: of the run.
        chunk: padded tokens of a chunk, or None.
        rehearsed: None counts what can be counted without: weights, gradients and the optimizer's state.

    Example:
        >>> module = nn.Linear(4, 2)  # ten numbers of four bytes
        >>> module.make_optimizer = torch.optim.AdamW  # keeps two more of each
        >>> shape = Shape(rows=16, batch=16, views=2, dim=2, longest=64, tokens=2048, mean_length=20.0, ranks=1, local_ranks=1)
        >>> memory = memory_of(module, shape, torch.device("cpu"), chunk=None, rehearsed=None)
        >>> memory.weights, memory.gradients, memory.optimizer
        (40, 40, 80)
    """
    weights = sum(p.nbytes for p in module.parameters())
    trainable = [p for p in module.parameters() if p.requires_grad]
    gradients = sum(p.nbytes for p in trainable)
    optimizer = round(state_bytes(module.make_optimizer) * sum(p.numel() for p in trainable))
    # With several ranks DDP copies gradients into the buckets that it reduces.
    reduced = gradients * (2 if shape.ranks > 1 else 1)
    if rehearsed is None:
        return Memory(weights, reduced, optimizer, activations=0, embeddings=0, loss=0, program=0)
    texts, keys = shape.rows * shape.views, shape.batch * (shape.views - 1)
    embeddings = round(rehearsed.factor * rehearsed.line.text * texts)
    needed = round(rehearsed.factor * rehearsed.line.at(at_once(shape, chunk), texts))
    workspace = backend_of("auto", torch.empty(0, device=device)).default_workspace
    return Memory(
        weights=weights,
        gradients=reduced,
        optimizer=optimizer,
        activations=max(0, needed - gradients - optimizer - embeddings),
        # The gathered keys, each with its gradient, in float32.
        embeddings=embeddings + (8 * shape.dim * keys if shape.ranks > 1 else 0),
        # The operator is done before the gradients of the weights are there.
        loss=max(0, min(workspace, 8 * shape.rows * keys) - gradients),
        program=max(0, rehearsed.program - weights, rehearsed.start - weights - needed),
    )


def fitting_chunk(memory: Memory, shape: Shape, rehearsed: Rehearsed, chunk: int | None, available: int) -> int:
    """Return the largest chunk, in tokens and a multiple of 256, that leaves a twentieth of the memory; 0 or less if none does.

    Example:
        >>> shape = Shape(rows=16, batch=16, views=2, dim=2, longest=64, tokens=2048, mean_length=20.0, ranks=1, local_ranks=1)
        >>> rehearsed = Rehearsed(Line(fixed=0.0, token=10.0, text=0.0, update=0.0), factor=1.0, program=0, start=0, tokens=512)
        >>> memory = Memory(weights=500, gradients=0, optimizer=0, activations=20480, embeddings=0, loss=0, program=0)
        >>> fitting_chunk(memory, shape, rehearsed, chunk=None, available=10000)  # 9500, less 500, of ten bytes a token
        768
    """
    texts = shape.rows * shape.views
    beside = memory.total - rehearsed.factor * rehearsed.line.at(at_once(shape, chunk), texts)
    left = (0.95 * available - beside) / rehearsed.factor
    if left < rehearsed.line.update:
        return 0
    tokens = (left - rehearsed.line.fixed - rehearsed.line.text * texts) / max(1.0, rehearsed.line.token)
    return int(tokens) // 256 * 256


def fit_line(held: Sequence[Held]) -> Line:
    """Fit a line to rehearsals.

    Args:
        held: of a small and a larger chunk; and, if there is a third, of more texts in chunks of the first size. With two only, the
            texts are counted with the tokens.

    Example:
        >>> fit_line([Held(100, 10, 1730, 900), Held(300, 30, 3190, 900), Held(100, 40, 1820, 900)])
        Line(fixed=1000.0, token=7.0, text=3.0, update=900)
    """
    small, large = held[:2]
    more = held[2] if len(held) > 2 else None
    text = 0.0
    if more is not None and more.texts > small.texts:
        text = max(0.0, (more.passes - small.passes) / (more.texts - small.texts))
    token = (large.passes - small.passes - text * (large.texts - small.texts)) / max(1, large.tokens - small.tokens)
    token = max(token, 0.0)
    fixed = large.passes - token * large.tokens - text * large.texts
    return Line(fixed, token, text, max(one.update for one in held))


def state_bytes(make_optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer]) -> float:
    """Bytes of state that an optimizer keeps for one float32 number of a matrix.

    Measured by one step on a matrix of its own; numbers that do not grow with the matrix (step counts) are left out.

    Example:
        >>> state_bytes(torch.optim.AdamW)  # two moments in float32
        8.0
        >>> state_bytes(torch.optim.SGD)
        0.0
    """
    sizes = []
    for width in (16, 32):
        weight = nn.Parameter(torch.ones(width, width))
        optimizer = make_optimizer([weight])
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        sizes.append(sum(t.nbytes for t in optimizer.state[weight].values() if isinstance(t, Tensor)))
    return (sizes[1] - sizes[0]) / (32 * 32 - 16 * 16)
