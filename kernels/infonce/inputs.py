"""The arguments of the operator's four operations, by name, and the schemas and gradients' order that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from inbatch.kernels.infonce.candidates import Rules

# How an annotation below is written in a schema of torch.
WRITTEN = {
    "Tensor": "Tensor", "Tensor | None": "Tensor?", "int": "int", "int | None": "int?", "bool": "bool", "str": "str",
    "Sequence[bool]": "bool[]",
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """What all operations take; a schema has no tuples, so that rules and guide are laid out.

    Attributes:
        query: (b, d).
        key: (n, d).
        own, query_ids, key_ids, ceiling, guide_query, guide_key, guide_ceiling: the fields of `Rules`.
        workspace: bytes; None is the backend's default.
        backend: "auto", "triton" or "chunked".
    """

    query: Tensor
    key: Tensor
    own: int | None
    query_ids: Tensor | None
    key_ids: Tensor | None
    ceiling: Tensor | None
    guide_query: Tensor | None
    guide_key: Tensor | None
    guide_ceiling: Tensor | None
    workspace: int | None
    backend: str

    @property
    def rules(self) -> Rules:
        """What excludes a pair."""
        guide = None
        if self.guide_query is not None and self.guide_key is not None and self.guide_ceiling is not None:
            guide = self.guide_query, self.guide_key, self.guide_ceiling
        return Rules(self.own, self.query_ids, self.key_ids, self.ceiling, guide)


@dataclass(frozen=True)
class HardestInputs(Inputs):
    """Of ``hardest``: ``count`` candidates a row."""

    count: int


@dataclass(frozen=True)
class LogSumsInputs(Inputs):
    """Of ``log_sums``: scale, 0-d, and whether the columns of the rows' own keys are reduced, too."""

    scale: Tensor
    columns: bool


@dataclass(frozen=True)
class LogSumGradientsInputs(Inputs):
    """Of ``log_sum_gradients``: log sums of rows and columns and the derivatives with respect to them, (b,) each.

    ``wanted`` says of query, key and scale whether a gradient is made.
    """

    scale: Tensor
    row: Tensor
    d_row: Tensor
    column: Tensor | None
    d_column: Tensor | None
    wanted: Sequence[bool]


@dataclass(frozen=True)
class ReducedInputs(Inputs):
    """Of ``reduced``: positive and weight, (b,); extra, (b, e); symmetric and reduction as in `operators.info_nce`.

    ``wanted`` says of query, key, scale, positive and extra whether a gradient is made.
    """

    scale: Tensor
    positive: Tensor | None
    extra: Tensor | None
    weight: Tensor | None
    symmetric: bool
    reduction: str
    wanted: Sequence[bool]


def spell(rules: Rules) -> dict[str, Any]:
    """Lay out rules as arguments of an operation, by name."""
    query, key, ceiling = rules.guide or (None, None, None)
    return {
        "own": rules.own, "query_ids": rules.query_ids, "key_ids": rules.key_ids, "ceiling": rules.ceiling,
        "guide_query": query, "guide_key": key, "guide_ceiling": ceiling,
    }  # fmt: skip


def schema_of(inputs: type[Inputs], outputs: int) -> str:
    """Write the schema of an operation that takes these arguments and returns so many tensors.

    Example:
        >>> schema_of(HardestInputs, 2).rsplit(", ", 2)[1:]
        ['int count) -> (Tensor', 'Tensor)']
    """
    arguments = ", ".join(f"{WRITTEN[str(field.type)]} {field.name}" for field in fields(inputs))
    return f"({arguments}) -> ({', '.join(['Tensor'] * outputs)})"


def tensors_of(inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Part the arguments into tensors, which autograd saves, and all else."""
    named = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in named.items() if name not in tensors}


def in_order(inputs: type[Inputs], **gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return gradients in the order of the arguments, None for all that has none."""
    return tuple(gradients.get(field.name) for field in fields(inputs))
