"""What a tensor's graph of derivatives leads to."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def foreign_leaf(value: Tensor, known: Sequence[Tensor]) -> Tensor | None:
    """Return a leaf that a value's gradient reaches and that is none of the known ones; None if there is none.

    Example:
        >>> import torch
        >>> a, b = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
        >>> foreign_leaf(a * b.sum(), [a]) is b, foreign_leaf(2 * a, [a])
        (True, None)
    """
    if any(value is leaf for leaf in known):
        return None
    if value.is_leaf:
        return value if value.requires_grad else None
    pending, seen = [value.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and not any(leaf is other for other in known):
            return leaf
        pending += [other for other, _ in node.next_functions]
    return None
