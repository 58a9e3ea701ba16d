"""Try the arithmetic that everything rests on, on the devices of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from inbatch.experiments.doctor.findings import Finding

if TYPE_CHECKING:
    from torch import Tensor

REMEDY = "pip install --force-reinstall torch transformers, and report it if that does not mend it"


def check_arithmetic() -> Iterator[Finding]:
    """Run each self-test.

    Example:
        >>> [(finding.topic, finding.state) for finding in check_arithmetic()]
        [('info_nce', 'ok'), ('caching', 'ok')]
    """
    yield run_self_test("info_nce", infonce_error)
    yield run_self_test("caching", caching_error)


def run_self_test(topic: str, test: Callable[[], tuple[float, float]]) -> Finding:
    """Run a test that returns the worst relative error and its bound.

    Example:
        >>> run_self_test("addition", lambda: (1e-7, 1e-4)).text
        'relative error 1e-07, bound 1e-04'
        >>> run_self_test("addition", lambda: (1e-3, 1e-4)).state
        'wrong'
        >>> run_self_test("division", lambda: 1 / 0).text
        'fails: ZeroDivisionError: division by zero'
    """
    try:
        error, bound = test()
    except Exception as failure:  # the finding is that it fails, whatever the reason
        return Finding(topic, "wrong", f"fails: {type(failure).__name__}: {failure}", REMEDY)
    text = f"relative error {error:.0e}, bound {bound:.0e}"
    return Finding(topic, "ok", text) if error <= bound else Finding(topic, "wrong", text, REMEDY)


def infonce_error() -> tuple[float, float]:
    """Compare the operator in float32, with its gradients, with dense arithmetic in float64.

    Example:
        >>> error, bound = infonce_error()
        >>> error <= bound
        True
    """
    import torch

    from inbatch.kernels import info_nce

    generator = torch.Generator().manual_seed(0)
    inputs = [torch.nn.functional.normalize(torch.randn(n, 64, generator=generator), dim=1) for n in (300, 700)]
    exact = [t.double().requires_grad_() for t in inputs]
    dense = torch.nn.functional.cross_entropy(20 * exact[0] @ exact[1].T, torch.arange(300))
    dense_gradients = torch.autograd.grad(dense, exact)
    errors = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        ours = [t.to(device).requires_grad_() for t in inputs]
        loss = info_nce(ours[0], ours[1], scale=20.0)
        gradients = torch.autograd.grad(loss, ours)
        errors += [relative_error(a, b) for a, b in zip((loss, *gradients), (dense, *dense_gradients))]
    return max(errors), 2e-4


def relative_error(ours: Tensor, exact: Tensor) -> float:
    """Return the largest difference over the largest exact value.

    Example:
        >>> import torch
        >>> relative_error(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 4.0]))  # 1 of 4
        0.25
    """
    exact = exact.detach().double().cpu()
    return float((ours.detach().double().cpu() - exact).abs().max() / exact.abs().max())


def caching_error() -> tuple[float, float]:
    """Compare the gradients of a tiny encoder run in chunks with those of one chunk.

    Example:
        >>> error, bound = caching_error()
        >>> error <= bound
        True
    """
    import torch

    from inbatch.kernels import map_in_chunks
    from inbatch.models.backbones.pretrained import TinyRandom
    from inbatch.models.encoder import Encoder
    from inbatch.text.tokens import tokenize

    encoder = Encoder(TinyRandom(dropout=0.0))
    tokens = tokenize(encoder.tokenizer, [f"text {'x' * i}" for i in range(12)])
    gradients = []
    for budget in (None, 40):
        encoder.zero_grad()
        map_in_chunks(encoder, tokens, budget=budget)[:, :8].sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]))
    return relative_error(gradients[1], gradients[0]), 1e-5
