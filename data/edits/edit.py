"""What changes the texts of a batch after its views were made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from inbatch.views import Views


class Edit(ABC):
    """Base class of what changes the texts of some views: words that are repeated, left out, or replaced.

    A run takes edits as ``data.edits: [{class_path: package.module.Class, init_args: {…}}]``, one after the other. What an edit draws must
    follow from the keys alone, as with ``random.Random(key)``, row by row: then a resumed run, and a run on another number of ranks, draws
    the same.

    Attributes:
        roles: names of the views that it changes, as in `Views.names`.

    Example:
        >>> class Lower(Edit):
        ...     roles = ("anchor",)
        ...     def __call__(self, views, keys):
        ...         return replace(views, anchor=[text.lower() for text in views.anchor])
        ...     def describe(self):
        ...         return "the anchor is written in small letters"
        >>> from dataclasses import replace
        >>> Lower()(Views(["A"], ["A"]), ["0 0"]).anchor
        ['a']
    """

    roles: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self, views: Views[list[str]], keys: Sequence[str]) -> Views[list[str]]:
        """Return the views of b rows with other texts in some roles; ``keys``, b strings, decide what is drawn."""

    @abstractmethod
    def describe(self) -> str:
        """Say in a line what is changed."""
