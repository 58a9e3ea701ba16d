"""Repeat words of a text: a view that means the same and has another length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from inbatch.errors import UsageError
from inbatch.views import Views

Role = Literal["anchor", "positive"]


@dataclass(frozen=True)
class Repetition:
    """How words are repeated; the number of them is drawn uniformly from 0 to ``max(2, rate · words)``.

    Attributes:
        rate: share of a text's words that may be repeated.
        most: upper bound of the number; None for none.
        short_of_bound: never draw the bound itself, so that texts of few words have one repetition at most, as in GCSE's release.
        roles: the views that are changed. Where the positive is the anchor's own text, GCSE's release changes both alike.
        alike: a positive that is the anchor's own text stays so: it gets the anchor's repetitions.

    Source: Wu et al. 2022, arXiv 2109.04380, section 3.1 (on sub-words there, on words between blanks here).

    Example:
        >>> how = Repetition(rate=0.2, alike=True)
        >>> how.describe()
        'words are repeated in anchor, at most 20% of them or 2'
        >>> views = how(Views(["red shoes"] * 50, ["red shoes"] * 50), keys=[str(row) for row in range(50)])
        >>> sorted(set(zip(views.anchor, views.positive)))
        [('red red shoes', 'red red shoes'), ('red shoes', 'red shoes')]
    """

    rate: float = 0.32
    most: int | None = None
    short_of_bound: bool = False
    roles: tuple[Role, ...] = ("anchor",)
    alike: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise UsageError(f"expected a repetition rate in (0, 1]; got {self.rate}. Set data.repetition.rate.")
        if self.most is not None and self.most < 1:
            raise UsageError(f"expected at most 1 or more repetitions; got {self.most}. Set data.repetition.most.")
        if not self.roles or not set(self.roles) <= set(get_args(Role)):
            raise UsageError(
                f"expected roles among anchor and positive; got {', '.join(self.roles) or 'none'}. Set data.repetition.roles."
            )

    def __call__(self, views: Views[list[str]], keys: Sequence[str]) -> Views[list[str]]:
        """Change the views of b rows; ``keys`` decide what is drawn."""
        changed = {
            role: [repeat_words(text, f"{role} {key}", self) for text, key in zip(getattr(views, role), keys)]
            for role in self.roles
        }
        if self.alike and "anchor" in changed:
            rows = zip(views.anchor, views.positive, changed["anchor"], changed.get("positive", views.positive))
            changed["positive"] = [new if before == same else other for before, same, new, other in rows]
        return replace(views, **changed)

    def describe(self) -> str:
        """Say in a line what is changed."""
        return f"words are repeated in {' and '.join(self.roles)}, at most {self.rate:.0%} of them or 2"


def repeat_words(text: str, key: str, how: Repetition) -> str:
    """Repeat some of a text's words, each where it stands and once; never the last one.

    Args:
        text: words between single blanks.
        key: decides what is drawn.
        how: the numbers.

    Example:
        >>> sorted({repeat_words("red leather shoes", str(key), Repetition(most=1)) for key in range(50)})
        ['red leather leather shoes', 'red leather shoes', 'red red leather shoes']
    """
    words = text.split(" ")
    bound = max(2, int(how.rate * len(words)))
    bound = min(bound, len(words), how.most or bound) - how.short_of_bound
    generator = random.Random(key)
    count = min(generator.randint(0, max(0, bound)), len(words) - 1)
    chosen = set(generator.sample(range(len(words) - 1), count)) if count else set()
    return " ".join(f"{word} {word}" if place in chosen else word for place, word in enumerate(words))
