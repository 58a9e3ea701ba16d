"""The roles that the columns of a data file play."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inbatch.data.formats.doubt import as_yaml

SETTINGS = ("anchor", "positive", "negatives", "score", "instruction", "label", "others")


@dataclass(frozen=True)
class Roles:
    """Which column plays which role.

    Attributes:
        anchor: the column of the queries.
        positive: the column of what they should find; None: the anchor's text again.
        negatives: columns of hard negatives; a single one may hold lists of texts.
        score: the column of similarities of anchor and positive, or of lists of them, one a candidate; several columns: one a candidate.
        how: how they were found: ``as set``, ``by name`` or ``by order``.
        instruction: the column of what each row asks for; only where it is set or has this name.
        left_out: columns of identifiers, which are not read.
        label: the column of classes, integers or words; only where it is set.
        others: columns of further texts by the name of the text, as in `inbatch.views.Views`; only where they are set.

    Example:
        >>> roles = Roles("question", "answer", ("neg_1", "neg_2"), how="by name")
        >>> print(roles)
        anchor = question; positive = answer; negatives = neg_1, neg_2 (by name)
        >>> roles.setting
        {'anchor': 'question', 'positive': 'answer', 'negatives': ['neg_1', 'neg_2']}
    """

    anchor: str
    positive: str | None = None
    negatives: tuple[str, ...] = ()
    score: str | tuple[str, ...] | None = None
    how: str = "as set"
    instruction: str | None = None
    left_out: tuple[str, ...] = ()
    label: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of texts to embed, each once."""
        columns = (self.anchor, self.positive, *self.negatives, *self.others.values())
        return tuple(dict.fromkeys(name for name in columns if name is not None))

    @property
    def scores(self) -> tuple[str, ...]:
        """The columns of scores: none, one, or one a candidate."""
        return self.score if isinstance(self.score, tuple) else () if self.score is None else (self.score,)

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        columns = (*self.texts, *self.scores, self.instruction, self.label)
        return tuple(dict.fromkeys(name for name in columns if name is not None))

    @property
    def setting(self) -> dict[str, Any]:
        """The mapping that gives the same roles."""
        found = {role: getattr(self, role) for role in SETTINGS}
        plain = {role: list(names) if isinstance(names, tuple) else names for role, names in found.items() if names}
        return plain | ({"others": dict(self.others)} if self.others else {})

    @property
    def without_instruction(self) -> str:
        """The mapping that gives the same roles but the instruction's, as YAML."""
        return as_yaml({role: names for role, names in self.setting.items() if role != "instruction"})

    def __str__(self) -> str:
        positive = "the same text" if self.positive is None else self.positive
        parts = [f"anchor = {self.anchor}", f"positive = {positive}"]
        parts += [f"negatives = {', '.join(self.negatives)}"] if self.negatives else []
        parts += [f"{name} = {column}" for name, column in self.others.items()]
        parts += [f"score = {', '.join(self.scores)}"] if self.scores else []
        parts += [f"instruction = {self.instruction}"] if self.instruction is not None else []
        parts += [f"label = {self.label}"] if self.label is not None else []
        ids = f"; left out as identifiers: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{'; '.join(parts)} ({self.how}{ids})"


def flat(columns: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Put the columns of the others beside the rest, as what looks for all columns that are named needs them.

    Example:
        >>> flat({"anchor": "question", "others": {"context": "page"}})
        {'anchor': 'question', 'context': 'page'}
    """
    if columns is None or not isinstance(others := columns.get("others"), Mapping):
        return None if columns is None else dict(columns)
    return {role: name for role, name in columns.items() if role != "others"} | dict(others)


def by_number(columns: Any) -> Any:
    """Make numbers of the columns that are named by digits.

    Example:
        >>> by_number({"anchor": "0", "negatives": ["2", "3"]})
        {'anchor': 0, 'negatives': [2, 3]}
    """
    if isinstance(columns, Mapping):
        return {role: by_number(name) for role, name in columns.items()}
    return [by_number(name) for name in columns] if isinstance(columns, list) else int(columns)


def listed(columns: Any) -> list[Any]:
    """Return one column, or several, as a list.

    Example:
        >>> listed("question"), listed(("neg_1", "neg_2"))
        (['question'], ['neg_1', 'neg_2'])
    """
    return list(columns) if isinstance(columns, (list, tuple)) else [columns]
