"""What autograd and an optimizer keep, measured on a few rows instead of guessed from a formula."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from inbatch.views import TokenBatch

if TYPE_CHECKING:
    from inbatch.models.encoder import Encoder

# Rows of the two probes: their difference is what one more row costs, free of what does not grow with rows.
PROBES = (2, 6)


def state_bytes(make_optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer]) -> float:
    """Bytes of state that an optimizer keeps for one float32 number of a matrix.

    Measured by one step on a matrix of its own; numbers that do not grow with the matrix (step counts) are left out.
    """
    sizes = []
    for width in (16, 32):
        weight = nn.Parameter(torch.ones(width, width))
        optimizer = make_optimizer([weight])
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        sizes.append(sum(t.nbytes for t in optimizer.state[weight].values() if isinstance(t, Tensor)))
    return (sizes[1] - sizes[0]) / (32 * 32 - 16 * 16)


def activation_bytes(encoder: Encoder, length: int, autocast: torch.dtype | None = None) -> tuple[float, float]:
    """Bytes that autograd keeps between the encoder's forward and backward passes.

    Args:
        encoder: in the mode that it trains in; runs where it lies.
        length: tokens of each text.
        autocast: dtype of mixed precision, or None.

    Returns:
        What does not grow with the number of texts (such as the weights' copies in half precision), and bytes a token.
    """
    kept = [_kept_bytes(encoder, rows, length, autocast) for rows in PROBES]
    slope = (kept[1] - kept[0]) / (PROBES[1] - PROBES[0])
    return max(0.0, kept[0] - slope * PROBES[0]), slope / length


def _kept_bytes(encoder: Encoder, rows: int, length: int, autocast: torch.dtype | None) -> int:
    own = {t.untyped_storage().data_ptr() for t in (*encoder.parameters(), *encoder.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()  # one entry a storage: views of it cost nothing
        return tensor

    # An ordinary id: the special ones may mean something to the network. Dropout's draws are taken back.
    ids = torch.full((rows, length), min(100, len(encoder.tokenizer) - 1), device=encoder.device)
    if (mask_id := encoder.tokenizer.mask_token_id) is not None:
        ids[:, -1] = mask_id  # mask pooling needs exactly one
    mixed: AbstractContextManager[Any] = nullcontext()
    if autocast is not None:
        mixed = torch.autocast(encoder.device.type, autocast)
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with torch.random.fork_rng(), torch.enable_grad(), mixed, hooks:
        z = encoder(TokenBatch(ids, torch.ones_like(ids)))
        kept.setdefault(z.untyped_storage().data_ptr(), z.nbytes)  # and with it the graph, until it has been counted
    return sum(kept.values())
