"""The ways to compute InfoNCE that `inbatch bench kernels` compares: ours, torch's, and those of packages that are installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from inbatch.kernels import info_nce

Step = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Contestant:
    """One way: from queries (b, d), keys (n, d), n >= b, and 1/temperature to the mean loss, 0-d.

    Attributes:
        name: as it is shown.
        step: the way itself.
        dtype: of the embeddings that it is given.
        bound: relative error of gradients beyond which the gate is red; None for peers, whose errors are only shown.
        symmetric: whether the loss is that of both directions.

    Example:
        >>> rival = Contestant("in double precision", naive, torch.float64)
        >>> q, k = rival.embeddings(torch.eye(2), torch.eye(2))
        >>> q.dtype, q.requires_grad
        (torch.float64, True)
        >>> round(rival.step(q, k, 0.0).item(), 4)  # without a scale both keys are alike: log 2
        0.6931
    """

    name: str
    step: Step
    dtype: torch.dtype
    bound: float | None = None
    symmetric: bool = False

    def embeddings(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Copy embeddings as this contestant's leaves."""
        return tuple(x.detach().to(self.dtype, copy=True).requires_grad_() for x in (q, k))  # type: ignore[return-value]


def ours(device: str) -> list[Contestant]:
    """List the settings of `info_nce`; the first is what all times are compared with.

    Example:
        >>> [contestant.name for contestant in ours("cpu")]
        ['inbatch float32', 'inbatch bfloat16', 'inbatch float32 symmetric']
    """
    float32, bfloat16 = (
        ("inbatch float32", torch.float32, 2e-4),
        ("inbatch bfloat16", torch.bfloat16, 1e-2),
    )
    one_way = [Contestant(name, _ours, dtype, bound) for name, dtype, bound in (float32, bfloat16)]
    two_ways = [Contestant(f"{n} symmetric", _symmetric, dtype, bound, True) for n, dtype, bound in (float32, bfloat16)]
    # Where there is a GPU, half precision is what is used: it comes first there.
    if device == "cpu":
        return [*one_way, two_ways[0]]
    plain = Contestant("inbatch float32, chunked", _plain, torch.float32, 1e-2)
    return [one_way[1], one_way[0], plain, two_ways[1], two_ways[0]]


def peers(device: str, absent: list[str]) -> list[Contestant]:
    """List the ways of others that run here; those that do not are appended to ``absent`` with the reason.

    Example:
        >>> from unittest.mock import patch
        >>> absent = []
        >>> with patch("inbatch.experiments.benchmarks.contestants.find_spec", return_value=None):  # as where no package is installed
        ...     print(peers("cpu", absent)[0].name)
        autograd cross_entropy
        >>> absent[-1]
        'sentence-transformers (pip install sentence-transformers)'
    """
    narrow = torch.float32 if device == "cpu" else torch.bfloat16
    found = [Contestant("autograd cross_entropy", naive, torch.float32)]
    if device == "cpu":
        absent.append("torch.compile, Inf-CL, CCE, Liger, QuACK (a GPU)")
    else:
        found += [
            Contestant("autograd cross_entropy bfloat16", naive, torch.bfloat16),
            Contestant("torch.compile of it, bfloat16", torch.compile(naive), torch.bfloat16),
        ]
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if options is None:
        absent.append("torch linear_cross_entropy (torch >= 2.13)")
    else:
        for name, option in {
            "torch linear_cross_entropy": options(),
            "torch linear_cross_entropy, chunk 512": options(chunking_method=None, batch_chunk_size=512),
            "torch linear_cross_entropy, chunk 2048": options(chunking_method=None, batch_chunk_size=2048),
        }.items():
            found.append(Contestant(name, _native(option), narrow))
    for module, package, make in OTHERS if device == "cuda" else OTHERS[:1]:
        if find_spec(module) is None:
            absent.append(f"{package} (pip install {package})")
            continue
        try:
            found += make(device)
        except Exception as error:
            absent.append(f"{package} ({type(error).__name__}: {str(error).partition(chr(10))[0]})")
    return found


def naive(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Compute the loss from the whole matrix of logits, in the embeddings' dtype.

    Example:
        >>> round(naive(torch.eye(2), torch.eye(2), 1.0).item(), 3)  # -log(e / (e + 1))
        0.313
    """
    return cross_entropy(scale * q @ k.T, _own(q))


def _own(q: Tensor) -> Tensor:
    return torch.arange(len(q), device=q.device)


def _ours(q: Tensor, k: Tensor, scale: float) -> Tensor:
    return info_nce(q, k, scale=scale)


def _plain(q: Tensor, k: Tensor, scale: float) -> Tensor:
    return info_nce(q, k, scale=scale, backend="chunked")


def _symmetric(q: Tensor, k: Tensor, scale: float) -> Tensor:
    return info_nce(q, k, scale=scale, symmetric=True)


def _native(options: Any) -> Step:
    def step(q: Tensor, k: Tensor, scale: float) -> Tensor:
        return torch.nn.functional.linear_cross_entropy(scale * q, k, _own(q), options=options)  # type: ignore[attr-defined]

    return step


def _sentence_transformers(device: str) -> list[Contestant]:
    from sentence_transformers import SentenceTransformer, util
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss  # type: ignore[import-not-found]

    model: Any = SentenceTransformer(modules=[torch.nn.Identity()], device=device)

    class Cached(torch.autograd.Function):
        """Its loss stage as its trainer runs it: each chunk's backward follows its forward, so that no graph is kept."""

        @staticmethod
        def forward(ctx: Any, q: Tensor, k: Tensor, loss: Any) -> Tensor:
            with torch.enable_grad():
                leaves = [x.detach().requires_grad_() for x in (q, k[: len(q)], k[len(q) :])]
                value = loss.calculate_loss([[x] for x in leaves if len(x)], with_backward=True)
            ctx.grads = leaves[0].grad, torch.cat([x.grad for x in leaves[1:] if x.grad is not None])
            return value.detach()

        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
            return *(grad * upstream for grad in ctx.grads), None

    def cached(rows: int) -> Step:
        made: dict[float, Any] = {}

        def step(q: Tensor, k: Tensor, scale: float) -> Tensor:
            if scale not in made:
                made[scale] = CachedMultipleNegativesRankingLoss(model, scale, util.dot_score, mini_batch_size=rows)
            return Cached.apply(q, k, made[scale])  # type: ignore[return-value]

        return step

    sizes = (1024,) if device == "cpu" else (32, 1024)
    return [Contestant(f"sentence-transformers cached, mini-batch {n}", cached(n), torch.float32) for n in sizes]


def _inf_cl(device: str) -> list[Contestant]:
    from inf_cl import cal_flash_loss  # type: ignore[import-not-found]

    def step(q: Tensor, k: Tensor, scale: float) -> Tensor:
        # Its kernels take embeddings in slices whose width is a power of two that divides the dimension.
        width = next((w for w in (256, 128, 64, 32, 16) if q.shape[1] % w == 0), 1)
        return cal_flash_loss(q, k, _own(q), scale, head_dim=width).mean()

    return [Contestant("Inf-CL", step, torch.float32)]


def _cut_cross_entropy(device: str) -> list[Contestant]:
    from cut_cross_entropy import linear_cross_entropy  # type: ignore[import-not-found]

    def of(**options: Any) -> Step:
        return lambda q, k, scale: linear_cross_entropy(scale * q, k, _own(q), **options)

    return [
        Contestant("CCE unfiltered", of(filter_eps=None), torch.bfloat16),
        Contestant("CCE default", of(), torch.bfloat16),
    ]


def _liger(device: str) -> list[Contestant]:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss  # type: ignore[import-not-found]

    loss = LigerFusedLinearCrossEntropyLoss(accum_dtype=torch.float32)
    return [Contestant("Liger", lambda q, k, scale: loss(k, scale * q, _own(q)), torch.bfloat16)]


def _quack(device: str) -> list[Contestant]:
    from quack.linear_cross_entropy import chunked_linear_cross_entropy  # type: ignore[import-not-found]

    return [
        Contestant("QuACK", lambda q, k, scale: chunked_linear_cross_entropy(scale * q, k, _own(q)), torch.bfloat16)
    ]


# Module to look for, package that brings it, how its contestants are made.
OTHERS: list[tuple[str, str, Callable[[str], list[Contestant]]]] = [
    ("sentence_transformers", "sentence-transformers", _sentence_transformers),
    ("inf_cl", "inf-cl", _inf_cl),
    ("cut_cross_entropy", "cut-cross-entropy", _cut_cross_entropy),
    ("liger_kernel", "liger-kernel", _liger),
    ("quack", "quack-kernels", _quack),
]
