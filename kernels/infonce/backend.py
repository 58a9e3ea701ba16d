"""What a backend is: the work over all pairs of rows and keys that the operator's derivatives need, each operation described once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from inbatch.kernels.infonce.candidates import Rules


@dataclass
class Problem:
    """One call's inputs as a backend holds them.

    Attributes:
        query: (b, d), detached.
        key: (n, d), detached.
        scale: 0-d, in the dtype of statistics: float32, or float64 for float64.
        rules: what excludes a pair.
        narrow_key: the keys as the products of gradients read them.
        workspace: bytes allowed beyond inputs, gradients and vectors.
    """

    query: Tensor
    key: Tensor
    scale: Tensor
    rules: Rules
    narrow_key: Tensor
    workspace: int

    def blocks(self, rows: int) -> Iterator[slice]:
        """Cut all rows into blocks."""
        b = len(self.query)
        return (slice(start, min(start + rows, b)) for start in range(0, b, rows))

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """No gradients, and no autocast, which would round float32 operands."""
        with torch.no_grad(), torch.autocast(self.query.device.type, enabled=False):
            yield


P = TypeVar("P", bound=Problem)
Pair = tuple[Tensor, Tensor]


class Backend(ABC, Generic[P]):
    """A way to reduce the (b, n) logits and to multiply by what they become; it has no state of its own.

    Attributes:
        name: as ``backend=`` spells it.
        default_workspace: bytes of a call that was given no ``workspace_bytes``.
    """

    name: ClassVar[str]
    default_workspace: ClassVar[int]

    @abstractmethod
    def problem(
        self, query: Tensor, key: Tensor, scale: Tensor | float, rules: Rules, workspace_bytes: int | None
    ) -> P:
        """Prepare one call; ``workspace_bytes`` None is the default."""

    @abstractmethod
    def log_sums(self, problem: P, own_columns: bool = False, keep: bool = False) -> tuple[Tensor, Tensor | None]:
        """Reduce the logits over each row, and over each row's own key's column.

        Args:
            problem: the call.
            own_columns: also reduce columns ``own … own + b`` over the rows.
            keep: hold the blocks for `gradients`, if all of them fit into the workspace.

        Returns:
            Log-sum-exp, (b,), over a row's candidates, and over its own key's column, (b,) or None; -inf where there are none.
        """

    @abstractmethod
    def fused(
        self, problem: P, slope: Callable[[slice, Tensor], Tensor], for_query: bool, for_key: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Reduce each row and make the gradients in the same pass.

        Args:
            problem: the call.
            slope: given rows and their log sums (c,), the derivative of the loss with respect to these, (c,).
            for_query: make dq.
            for_key: make dk.

        Returns:
            Log sums (b,), dq (b, d) or None, dk (n, d) or None.
        """

    @abstractmethod
    def gradients(
        self, problem: P, row: Pair, column: Pair | None, for_query: bool, for_key: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Make the gradients from known log sums.

        Args:
            problem: the call that `log_sums` was given.
            row: log sums of the rows and the loss's derivatives with respect to them, (b,) each.
            column: the same for the columns of the rows' own keys.
            for_query: make dq.
            for_key: make dk.

        Returns:
            dq (b, d) or None, dk (n, d) or None.
        """

    @abstractmethod
    def logits(self, problem: P) -> Iterator[tuple[slice, Tensor]]:
        """Go through the logits, -inf where a pair is no candidate: rows, and (c, n) that holds until the next is asked for."""

    def hardest(self, problem: P, count: int) -> tuple[Tensor, Tensor]:
        """Find each row's largest candidates.

        Returns:
            Values (b, count) and indices (b, count), -inf and -1 where there are fewer.
        """
        b, n = len(problem.query), len(problem.key)
        values = problem.scale.new_full((b, count), -torch.inf)
        indices = torch.full((b, count), -1, dtype=torch.int64, device=problem.query.device)
        found = min(count, n)
        if not b or not found:
            return values, indices
        with problem.arithmetic():
            for rows, logits in self.logits(problem):
                top = logits.topk(found, dim=1)
                values[rows, :found] = top.values
                indices[rows, :found] = top.indices.masked_fill(top.values.isneginf(), -1)
        return values, indices


def finite(shift: Tensor) -> Tensor:
    """Take 0 for the shift of a row without candidates: its exponentials are all 0 then, where -inf - -inf would be NaN."""
    return shift.masked_fill(shift.isneginf(), 0.0)


def shift_and_weight(known: Pair, scale: Tensor) -> Pair:
    """Turn log sums and the derivatives with respect to them, (b,) each, into what `Backend.gradients` multiplies.

    Returns:
        The shift of the exponents, and the factor of the exponentials in the dot products' gradient; 0 in a row without candidates.
    """
    log_sum, slope = known
    return finite(log_sum), torch.where(log_sum.isneginf(), 0.0, slope * scale)
