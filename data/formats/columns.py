"""Decide which column of a data file plays which role: by the column's name, else by the order of the columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inbatch.data.formats.doubt import Doubt, Meaning, as_yaml
from inbatch.data.formats.ids import Likeness
from inbatch.errors import UsageError

# What a column holds. `DIGITS` are numbers written as text, as in csv files: they can be either.
TEXT, TEXTS, NUMBER, DIGITS, OTHER = "text", "list of texts", "number", "number as text", "neither text nor number"

_NAMES = {
    "anchor": "anchor query question sentence1 sentence_1 sentence_a sent0 text1",
    "positive": "positive pos answer sentence2 sentence_2 sentence_b sent1 text2 document passage response",
    "negatives": "negative negatives neg hard_neg hard_negative hard_negatives",
    "score": "score scores label labels similarity",
    "text": "text sentence",
    "instruction": "instruction",
}
_ROLE = {name: role for role, names in _NAMES.items() for name in names.split()}
_NUMBERED = re.compile(r"(?:negative|neg|hard_neg|hard_negative)_?(\d+)")
_TEXTUAL = (TEXT, TEXTS, DIGITS)
_ONE_OF_EACH = ("anchor", "positive", "score", "instruction")
SETTINGS = ("anchor", "positive", "negatives", "score", "instruction")


@dataclass(frozen=True)
class Roles:
    """Which column plays which role.

    Attributes:
        anchor: the column of the queries.
        positive: the column of what they should find; None: the anchor's text again.
        negatives: columns of hard negatives; a single one may hold lists of texts.
        score: the column of similarities.
        instruction: the column of what each row asks for; only where it is set or has this name.
        how: how they were found: ``as set``, ``by name`` or ``by order``.
        left_out: columns of identifiers, which are not read.
    """

    anchor: str
    positive: str | None = None
    negatives: tuple[str, ...] = ()
    score: str | None = None
    how: str = "as set"
    instruction: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of texts to embed, each once."""
        return tuple(dict.fromkeys(name for name in (self.anchor, self.positive, *self.negatives) if name is not None))

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        return (*self.texts, *(name for name in (self.score, self.instruction) if name is not None))

    @property
    def setting(self) -> dict[str, str | list[str]]:
        """The mapping that gives the same roles."""
        found = {role: getattr(self, role) for role in SETTINGS}
        return {role: list(names) if isinstance(names, tuple) else names for role, names in found.items() if names}

    @property
    def without_instruction(self) -> str:
        """The mapping that gives the same roles but the instruction's, as YAML."""
        return as_yaml({role: names for role, names in self.setting.items() if role != "instruction"})

    def __str__(self) -> str:
        positive = "the same text" if self.positive is None else self.positive
        parts = [f"anchor = {self.anchor}", f"positive = {positive}"]
        parts += [f"negatives = {', '.join(self.negatives)}"] if self.negatives else []
        parts += [f"score = {self.score}"] if self.score is not None else []
        parts += [f"instruction = {self.instruction}"] if self.instruction is not None else []
        ids = f"; left out as identifiers: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{'; '.join(parts)} ({self.how}{ids})"


def resolve(
    kinds: Mapping[str, str],
    columns: Mapping[str, str | int | Sequence[str | int]] | None,
    where: str,
    ids: Mapping[str, Likeness] | None = None,
) -> Roles:
    """Find the role of each column.

    A given mapping decides, and all other columns are left out. Else columns of identifiers are left out, unless their name is known.
    Then names decide: case is ignored, all columns must have a known name, and no role may be claimed twice. If no column has a known
    name, the order does: one text is the anchor and its own positive; two are anchor and positive; further ones are hard negatives; a last
    column of numbers is the score. A column ``instruction`` is one beside known names only; by order it is a text as any other.

    Args:
        kinds: what each column holds, in the order of the file: `TEXT`, `TEXTS`, `NUMBER`, `DIGITS` or `OTHER`.
        columns: ``{"anchor": name, "positive": name, "negatives": [names], "score": name, "instruction": name}``, all but the
            anchor optional.
        where: the source's name, for messages.
        ids: the columns that hold identifiers, or may, as `inbatch.data.formats.ids.find_ids` says.

    Raises:
        UsageError: if a named column is missing, a column's content does not fit its role, or the roles cannot be decided; then the lines
            that decide them are said (`Doubt`).
    """
    ids = ids or {}
    if columns is not None:
        roles = _as_set(kinds, columns, where)
    elif any(role_of(name) not in (None, "instruction") for name in kinds):
        roles = _by_name(kinds, where, ids)
    else:
        roles = _by_order(kinds, where, ids)
    _check_content(kinds, roles, where)
    return roles


def _as_set(kinds: Mapping[str, str], columns: Mapping[str, str | int | Sequence[str | int]], where: str) -> Roles:
    if unknown := set(columns) - set(SETTINGS):
        raise UsageError(f"{where}: expected roles {', '.join(SETTINGS)} in columns; got {', '.join(sorted(unknown))}.")
    if "anchor" not in columns:
        raise UsageError(f"{where}: columns needs at least an anchor; got {', '.join(columns) or 'nothing'}.")
    given = {role: [value] if isinstance(value, (str, int)) else list(value) for role, value in columns.items()}
    for role, names in given.items():
        if role in _ONE_OF_EACH and len(names) != 1:
            raise UsageError(f"{where}: expected one column as {role}; got {len(names)}.")
        for name in names:
            if str(name) not in kinds:
                raise UsageError(
                    f"{where}: there is no column {name}, set as {role}; the columns are {', '.join(kinds)}."
                )
    single = {role: str(given[role][0]) if role in given else None for role in ("positive", "score", "instruction")}
    negatives = tuple(str(name) for name in given.get("negatives", []))
    return Roles(
        str(given["anchor"][0]), single["positive"], negatives, single["score"], instruction=single["instruction"]
    )


def role_of(name: str) -> str | None:
    """Return the role that a name is known for."""
    name = name.strip().lower()
    return "negatives" if _NUMBERED.fullmatch(name) else _ROLE.get(name)


def _by_name(kinds: Mapping[str, str], where: str, ids: Mapping[str, Likeness]) -> Roles:
    left_out = tuple(name for name in kinds if role_of(name) is None and ids.get(name) == "ids")
    kept = {name: kind for name, kind in kinds.items() if name not in left_out}
    roles = replace(_named(kept, where), left_out=left_out)
    numbers = [
        name
        for name in roles.texts
        if kinds[name] in (DIGITS, NUMBER) and (ids.get(name) == "ids" or (name == roles.anchor and name in ids))
    ]
    if numbers:
        why = f"{' and '.join(numbers)} {'holds' if len(numbers) == 1 else 'hold'} identifiers, not texts, by the first rows"
        raise Doubt(where, why, [("if they are meant to be embedded", {"columns": roles.setting})])
    return roles


def _named(kinds: Mapping[str, str], where: str) -> Roles:
    found: dict[str, list[str]] = {}
    for name in kinds:
        found.setdefault(role_of(name) or "unknown", []).append(name)
    if unknown := found.get("unknown"):
        raise _undecided(f"no role is known for {', '.join(unknown)}", kinds, where)
    if list(found) == ["text"] and len(found["text"]) == 1:
        return Roles(found["text"][0], how="by name")
    # Next to other roles a plain text can be the anchor or the positive; guessing would be silent.
    if "text" in found:
        raise _undecided(f"the role of {', '.join(found['text'])} is open", kinds, where)
    for role in _ONE_OF_EACH:
        if len(found.get(role, [])) > 1:
            raise _undecided(f"{' and '.join(found[role])} may all be the {role}", kinds, where)
    if "anchor" not in found or ("positive" not in found and len(found) > 1):
        missing = "positive" if "anchor" in found else "anchor"
        raise _undecided(f"none of them is known as the {missing}", kinds, where)
    negatives = found.get("negatives", [])
    numbers = [match and int(match[1]) for match in (_NUMBERED.fullmatch(name.lower()) for name in negatives)]
    if len(negatives) > 1 and (None in numbers or len(set(numbers)) < len(numbers)):
        raise _undecided(f"{' and '.join(negatives)} may all be the hard negatives", kinds, where)
    if len(negatives) > 1:
        negatives = [name for _, name in sorted(zip(numbers, negatives))]
    positive = found.get("positive", [None])[0]
    score, instruction = (found.get(role, [None])[0] for role in ("score", "instruction"))
    return Roles(found["anchor"][0], positive, tuple(negatives), score, "by name", instruction)


def _by_order(kinds: Mapping[str, str], where: str, ids: Mapping[str, Likeness]) -> Roles:
    left_out = tuple(name for name in kinds if ids.get(name) == "ids")
    names = [name for name in kinds if name not in left_out]
    words = all(ids.get(name) and kinds[name] == TEXT for name in names[:2])
    if open_ := [name for name in names if ids.get(name) and not (words and kinds[name] == TEXT)]:
        raise _open_ids(open_, {name: kinds[name] for name in names}, where)
    score = names.pop() if len(names) > 2 and kinds[names[-1]] in (NUMBER, DIGITS) else None
    if not names or any(kinds[name] not in (TEXT, TEXTS) for name in names):
        raise _undecided("no name is known, and not all of them hold texts", kinds, where, left_out)
    positive = names[1] if len(names) > 1 else None
    return Roles(names[0], positive, tuple(names[2:]), score, "by order", left_out=left_out)


def _open_ids(open_: Sequence[str], kinds: Mapping[str, str], where: str) -> Doubt:
    """Refuse columns that may hold identifiers, with the roles that follow if they do, if only the first does, and if none does."""
    several = len(open_) > 1
    cases = [(f"if {' and '.join(open_)} {'hold' if several else 'holds'} identifiers", open_)]
    cases += [(f"if only {open_[0]} holds identifiers", open_[:1])] if several else []
    cases += [("if there are no identifiers", [])]
    meanings: list[Meaning] = []
    for meaning, left_out in cases:
        rest = {name: kind for name, kind in kinds.items() if name not in left_out}
        if any(kind in _TEXTUAL for kind in rest.values()):
            meanings.append((meaning, {"columns": _guess_by_order(rest)}))
    why = (
        f"the column{'s' if several else ''} {' and '.join(open_)} may hold identifiers, which no text is trained with"
    )
    return Doubt(where, why, meanings)


def _check_content(kinds: Mapping[str, str], roles: Roles, where: str) -> None:
    if roles.positive is None and (roles.negatives or roles.score is not None):
        raise UsageError(f"{where}: hard negatives and scores need a positive. Set columns.positive.")
    lists = [name for name in roles.texts if kinds[name] == TEXTS]
    if roles.anchor in lists or (set(lists) & set(roles.negatives) and len(roles.negatives) > 1):
        why = (
            "lists of texts may stand in the positive column or in a single column of negatives; got them in "
            f"{', '.join(lists)} with {roles}"
        )
        plain = [name for name in kinds if kinds[name] == TEXT][:2]
        if len(plain) < 2:
            raise UsageError(f"{where}: {why}. Set columns.")
        raise Doubt(where, why, [("if it is pairs", {"columns": dict(zip(("anchor", "positive"), plain))})])
    for name in roles.texts:
        # Numbers are texts where a name says so, as answers may be; by order they never are.
        if kinds[name] not in (*_TEXTUAL, NUMBER):
            raise _wrong(f"expected texts in column {name}; it holds: {kinds[name]}", kinds, where)
    if roles.instruction is not None and kinds[roles.instruction] != TEXT:
        raise UsageError(
            f"{where}: expected texts in the instruction column {roles.instruction}; it holds: {kinds[roles.instruction]}."
        )
    if roles.score is not None and kinds[roles.score] not in (NUMBER, DIGITS):
        raise _wrong(
            f"expected numbers in the score column {roles.score}; it holds: {kinds[roles.score]}", kinds, where
        )


def _wrong(why: str, kinds: Mapping[str, str], where: str) -> UsageError:
    """Refuse a column, with the line that takes others where there are any."""
    guess = _guess(kinds)
    if guess["anchor"] == "NAME":
        return UsageError(f"{where}: {why}, and there is no column of texts.")
    return Doubt(where, f"{why}. Set columns to other ones", [("if these are meant", {"columns": guess})])


def _undecided(why: str, kinds: Mapping[str, str], where: str, left_out: Sequence[str] = ()) -> Doubt:
    kept = {name: kind for name, kind in kinds.items() if name not in left_out} or kinds
    return Doubt(
        where,
        f"cannot decide the roles of the columns {', '.join(kinds)}: {why}. Say which has which of the roles {', '.join(SETTINGS)}; "
        "those left out are ignored",
        [("if this is meant", {"columns": _guess(kept) if any(map(role_of, kept)) else _guess_by_order(kept)})],
    )


def _guess(kinds: Mapping[str, str]) -> dict[str, str | list[str]]:
    """Propose roles for columns that leave them open: by name, and the first other texts as anchor and positive."""
    fits = {"score": (NUMBER, DIGITS), "instruction": (TEXT,), "anchor": (TEXT, DIGITS)}
    known: dict[str, list[str]] = {role: [] for role in SETTINGS}
    open_: list[str] = []
    for name, kind in kinds.items():
        role = role_of(name)
        if role in known and kind in fits.get(role, _TEXTUAL):
            known[role].append(name)
        elif kind == TEXT and role in (None, "text"):
            open_.append(name)
    anchor = known["anchor"] or open_[:1] or ["NAME"]
    positive = known["positive"] or [name for name in open_ if name not in anchor]
    guess: dict[str, str | list[str]] = {"anchor": anchor[0]}
    if not positive:
        return guess
    guess["positive"] = positive[0]
    negatives = known["negatives"]
    if negatives:
        guess["negatives"] = negatives if all(kinds[name] != TEXTS for name in negatives) else negatives[:1]
    return guess | {role: known[role][0] for role in ("score", "instruction") if known[role]}


def _guess_by_order(kinds: Mapping[str, str]) -> dict[str, str | list[str]]:
    """Propose roles where no name is known: a last or only column of numbers is the score, unless it is needed as a text."""
    names = list(kinds)
    numbers = [name for name in names if kinds[name] in (NUMBER, DIGITS)]
    score = names[-1:] if names[-1] in numbers else numbers if len(numbers) == 1 else []
    score = score if len(names) > 2 else []
    texts = [name for name in names if kinds[name] in (TEXT, TEXTS)]
    if len(texts) < 2:
        texts = [name for name in names if kinds[name] in _TEXTUAL and name not in score]
    guess: dict[str, str | list[str]] = {"anchor": texts[0] if texts else "NAME"}
    if len(texts) > 1:
        guess["positive"] = texts[1]
        guess |= {"negatives": texts[2:]} if len(texts) > 2 else {}
        guess |= {"score": score[0]} if score else {}
    return guess
