"""The views that a source takes by name: the text twice, a pair, a triplet, a scored pair, or every role that was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, ClassVar, Literal, get_args

from inbatch.data.formats.columns import Roles
from inbatch.data.views.row_view import Row, RowView, draw
from inbatch.errors import UsageError
from inbatch.views import Views

View = Literal["auto", "same", "pair", "triplet", "scored"]


@dataclass(frozen=True)
class Auto(RowView):
    """Every role that was found; of a list of positives one is drawn, of a list of hard negatives as many as are asked for.

    Attributes:
        negatives: hard negatives a row: drawn without repetition while the row's last. None: all of the row's.

    Example:
        >>> row = {"anchor": "Do you ship?", "negatives": ["At nine."]}
        >>> list(Auto()(row, "0 7")), list(Auto(negatives=0)(row, "0 7"))
        (['Do you ship?', 'Do you ship?', 'At nine.'], ['Do you ship?', 'Do you ship?'])
    """

    negatives: int | None = None
    needs: ClassVar[tuple[str, ...] | None] = None

    def reads(self, roles: Roles, where: str) -> Roles:
        """Keep the roles that the view needs, and what says something of the whole row.

        Raises:
            UsageError: if one that it needs was not found.
        """
        if self.needs is None:
            return roles
        for role in self.needs:
            if not getattr(roles, role):
                name = type(self).__name__.lower()
                raise UsageError(
                    f"{where}: view {name} needs {role}; found {roles}. Set columns.{role}, or view: auto."
                )
        kept = replace(roles, positive=None, negatives=(), score=None, others={})
        return replace(kept, **{role: getattr(roles, role) for role in self.needs})

    def __call__(self, row: Row, key: str) -> Views[str]:
        """Put the row's texts into their roles; without a positive the anchor's text is it."""
        negatives = row.get("negatives", ())
        count = len(negatives) if self.negatives is None else self.negatives
        chosen = draw(max(len(negatives), 1), count, key)
        score = row.get("score")
        if isinstance(score, list):
            score = [score[0], *(score[1 + i] for i in chosen)] if chosen else score[0]
        return Views(
            row["anchor"],
            _one(row["positive"], key) if "positive" in row else row["anchor"],
            tuple(negatives[i] if negatives else "" for i in chosen),
            score,
            others={name: _one(text, f"{name} {key}") for name, text in row.items() if name not in _NO_OTHERS},
            labels=row.get("label"),
        )

    def pairs(self, row: Row) -> list[tuple[str, str]]:
        """Return the anchor with its positives, then with its hard negatives."""
        positive = row.get("positive", row["anchor"])
        texts = (positive or [""]) if isinstance(positive, list) else [positive]
        negatives = row.get("negatives", ()) if self.negatives != 0 else ()
        return [(row["anchor"], text) for text in (*texts, *negatives)]

    def describe(self) -> str:
        """See `RowView.describe`."""
        needs = "every role" if self.needs is None else ", ".join(("anchor", *self.needs))
        return f"{type(self).__name__.lower()}: {needs}"


class Same(Auto):
    """A text twice: its own positive.

    Example:
        >>> print(Same().reads(Roles("question", "answer"), "faq"))
        anchor = question; positive = the same text (as set)
    """

    needs = ()


class Pair(Auto):
    """Anchor and positive.

    Example:
        >>> print(Pair().reads(Roles("question", "answer", ("wrong",)), "faq"))
        anchor = question; positive = answer (as set)
    """

    needs = ("positive",)


class Triplet(Auto):
    """Anchor, positive and hard negatives.

    Example:
        >>> Triplet().reads(Roles("question", "answer"), "faq")
        Traceback (most recent call last):
        inbatch.errors.UsageError: faq: view triplet needs negatives; found anchor = question; positive = answer (as set).
        Set columns.negatives, or view: auto.
    """

    needs = ("positive", "negatives")


class Scored(Auto):
    """Anchor, positive and their score.

    Example:
        >>> print(Scored().reads(Roles("one", "two", ("wrong",), "similarity"), "drinks"))
        anchor = one; positive = two; score = similarity (as set)
    """

    needs = ("positive", "score")


def view_of(view: View | RowView | Mapping[str, Any], where: str) -> RowView:
    """Return the object that a source's ``view`` means: a name, such an object, or a class path with its arguments.

    Args:
        view: as in `inbatch.data.sources.sources.Source`.
        where: the source's name, for messages.

    Raises:
        UsageError: if it is none of these.

    Example:
        >>> view_of("triplet", "faq").describe()
        'triplet: anchor, positive, negatives'
        >>> view_of({"class_path": "inbatch.data.views.named.Auto", "init_args": {"negatives": 2}}, "faq")
        Auto(negatives=2)
    """
    if isinstance(view, RowView):
        return view
    if isinstance(view, Mapping):
        module, _, name = str(view.get("class_path")).rpartition(".")
        try:
            kind = getattr(import_module(module), name)
            made = kind(**(view.get("init_args") or {}))
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise UsageError(f"{where}: expected a view's class_path and its init_args; got {view}: {error}.") from None
        if isinstance(made, RowView):
            return made
    named = {kind.__name__.lower(): kind for kind in (Auto, Same, Pair, Triplet, Scored)}
    if not isinstance(view, str) or view not in named:
        raise UsageError(
            f"{where}: expected view to be one of {', '.join(get_args(View))}, or class_path of a RowView; got {view!r}."
        )
    return named[view]()


_NO_OTHERS = ("anchor", "positive", "negatives", "score", "label", "instruction")


def _one(text: str | list[str], key: str) -> str:
    """Draw one text of a list; a single text is taken as it is."""
    return text if isinstance(text, str) else text[draw(len(text), 1, key)[0]] if text else ""
