"""Decide which column of a data file plays which role: by the column's name, else by the order of the columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from inbatch.data.formats.doubt import Doubt, Meaning
from inbatch.data.formats.ids import Likeness
from inbatch.data.formats.roles import SETTINGS, Roles, listed
from inbatch.errors import UsageError

# What a column holds. `DIGITS` are numbers written as text, as in csv files: they can be either.
TEXT, TEXTS, NUMBER, DIGITS, OTHER = "text", "list of texts", "number", "number as text", "neither text nor number"

_NAMES = {
    "anchor": "anchor query question sentence1 sentence_1 sentence_a sent0 text1",
    "positive": "positive pos answer sentence2 sentence_2 sentence_b sent1 text2 document passage response",
    "negatives": "negative negatives neg hard_neg hard_negative hard_negatives",
    "score": "score scores similarity",
    "text": "text sentence",
    "instruction": "instruction",
    "label": "label labels",
}
_ROLE = {name: role for role, names in _NAMES.items() for name in names.split()}
_NUMBERED = re.compile(r"(?:negative|neg|hard_neg|hard_negative)_?(\d+)")
_TEXTUAL = (TEXT, TEXTS, DIGITS)
_ONE_OF_EACH = ("anchor", "positive", "instruction", "label")
# What other texts of a row may not be called: texts, and what else a row has.
_TAKEN = re.compile(r"anchor|positive|negatives?(_\d+)?|score|labels?|instructions?|source|ids|others")
# Columns that name, set by itself, or a list of them, or a mapping of names to them.
Columns = Mapping[str, str | int | Sequence[str | int] | Mapping[str, str | int]]


def resolve(
    kinds: Mapping[str, str],
    columns: Columns | None,
    where: str,
    ids: Mapping[str, Likeness] | None = None,
) -> Roles:
    """Find the role of each column.

    A given mapping decides, and all other columns are left out. Else columns of identifiers are left out, unless their name is known.
    Then names decide: case is ignored, all columns must have a known name, and no role may be claimed twice. If no column has a known
    name, the order does: one text is the anchor and its own positive; two are anchor and positive; further ones are hard negatives; a last
    column of numbers is the score. A column ``instruction`` is one beside known names only; by order it is a text as any other. A column
    ``label`` may hold classes or scores, and is read only where it is set.

    Args:
        kinds: what each column holds, in the order of the file: `TEXT`, `TEXTS`, `NUMBER`, `DIGITS` or `OTHER`.
        columns: ``{"anchor": name, "positive": name, "negatives": [names], "score": name, "instruction": name, "label": name,
            "others": {"context": name}}``, all but the anchor optional. ``score`` may be a list of names, one a candidate.
        where: the source's name, for messages.
        ids: the columns that hold identifiers, or may, as `inbatch.data.formats.ids.find_ids` says.

    Raises:
        UsageError: if a named column is missing, a column's content does not fit its role, or the roles cannot be decided; then the lines
            that decide them are said (`Doubt`).

    Example:
        >>> kinds = {"nr": "number", "Question": "text", "Answer": "text"}
        >>> print(resolve(kinds, None, "faq.csv", ids={"nr": "ids"}))
        anchor = Question; positive = Answer (by name; left out as identifiers: nr)
        >>> print(resolve(kinds, {"anchor": "Answer"}, "faq.csv"))
        anchor = Answer; positive = the same text (as set)
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


def _as_set(kinds: Mapping[str, str], columns: Columns, where: str) -> Roles:
    if unknown := set(columns) - set(SETTINGS):
        raise UsageError(f"{where}: expected roles {', '.join(SETTINGS)} in columns; got {', '.join(sorted(unknown))}.")
    if "anchor" not in columns:
        raise UsageError(f"{where}: columns needs at least an anchor; got {', '.join(columns) or 'nothing'}.")
    others = _others(columns.get("others") or {}, where)
    given = {role: listed(value) for role, value in columns.items() if role != "others"}
    for role, names in {**given, **{role: [name] for role, name in others.items()}}.items():
        if role in _ONE_OF_EACH and len(names) != 1:
            raise UsageError(f"{where}: expected one column as {role}; got {len(names)}.")
        for name in names:
            if str(name) not in kinds:
                raise UsageError(
                    f"{where}: there is no column {name}, set as {role}; the columns are {', '.join(kinds)}."
                )
    single = {role: str(given[role][0]) if role in given else None for role in ("positive", "instruction", "label")}
    negatives, scores = (tuple(str(name) for name in given.get(role, [])) for role in ("negatives", "score"))
    score = scores if len(scores) > 1 else scores[0] if scores else None
    positive, instruction, label = (single[role] for role in ("positive", "instruction", "label"))
    return Roles(
        str(given["anchor"][0]), positive, negatives, score, instruction=instruction, label=label, others=others
    )


def _others(given: Any, where: str) -> dict[str, str]:
    """Check the names of a row's other texts, and the columns that hold them."""
    if not isinstance(given, Mapping) or not all(isinstance(name, (str, int)) for name in given.values()):
        raise UsageError(
            f"{where}: expected columns.others as names of texts and a column each, such as {{context: NAME}}; got {given}."
        )
    for name in map(str, given):
        if not name.isidentifier() or _TAKEN.fullmatch(name):
            raise UsageError(
                f"{where}: expected letters, digits and underscores as the name of another text, and no name that a row has already, such "
                f"as anchor or negative_1; got {name!r}. Rename it in columns.others, such as positive_2 or context."
            )
    return {str(name): str(column) for name, column in given.items()}


def read_as(kind: str, score: bool) -> str:
    """Say as what a column is read: a score as a number, scores in lists as the texts that their file writes, other numbers as texts.

    Example:
        >>> read_as(DIGITS, score=True), read_as(NUMBER, score=False), read_as(TEXTS, score=False)
        ('number', 'text', 'list of texts')
    """
    if score:
        return TEXTS if kind in (TEXTS, OTHER) else NUMBER
    return TEXT if kind == NUMBER else kind


def role_of(name: str) -> str | None:
    """Return the role that a name is known for.

    Example:
        >>> [role_of(name) for name in ("Query", "answer", "neg_2", "price")]
        ['anchor', 'positive', 'negatives', None]
    """
    name = name.strip().lower()
    return "negatives" if _NUMBERED.fullmatch(name) else _ROLE.get(name)


def _by_name(kinds: Mapping[str, str], where: str, ids: Mapping[str, Likeness]) -> Roles:
    left_out = tuple(name for name in kinds if role_of(name) is None and ids.get(name) == "ids")
    labels = [name for name in kinds if role_of(name) == "label"]
    kept = {name: kind for name, kind in kinds.items() if name not in (*left_out, *labels)}
    if not kept:
        raise _undecided("none of them is known as the anchor", kinds, where)
    roles = replace(_named(kept, where), left_out=left_out)
    if labels and roles.positive is not None:
        # 0, 1, 2 of NLI are no similarities, and pairs of class 0 may be no positives: neither is for the order to decide.
        cases = (("scores", {"score": labels[0]}), ("classes", {"label": labels[0]}), ("nothing that matters", {}))
        meanings = [(f"if it holds {what}", {"columns": roles.setting | more}) for what, more in cases]
        raise Doubt(where, f"the column {labels[0]} may hold classes or scores", meanings)
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
    for role in (*_ONE_OF_EACH, "score"):
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
    if roles.label is not None and kinds[roles.label] not in (TEXT, DIGITS, NUMBER):
        raise UsageError(
            f"{where}: expected integers or words in the label column {roles.label}; it holds: {kinds[roles.label]}. Set columns.label."
        )
    _check_scores(kinds, roles, where)


def _check_scores(kinds: Mapping[str, str], roles: Roles, where: str) -> None:
    if both := [name for name in roles.scores if name in roles.texts]:
        raise UsageError(
            f"{where}: expected other columns of scores than of texts; got {', '.join(both)} as both. Set columns.score to another column."
        )
    # One column may hold lists, where it was asked for; that these are of numbers is seen when they are read.
    numbers = (NUMBER, DIGITS, TEXTS, OTHER) if len(roles.scores) == 1 and roles.how == "as set" else (NUMBER, DIGITS)
    for name in roles.scores:
        if kinds[name] not in numbers:
            raise _wrong(f"expected numbers in the score column {name}; it holds: {kinds[name]}", kinds, where)
    lists = any(kinds[name] == TEXTS for name in roles.negatives)
    if len(roles.scores) > 1 and (lists or len(roles.scores) != 1 + len(roles.negatives)):
        got = "hard negatives in lists" if lists else f"{len(roles.negatives)} columns of hard negatives"
        raise UsageError(
            f"{where}: expected a score of the positive and one of each hard negative; got {len(roles.scores)} columns of scores and {got}. "
            "Set columns.score to one column, of numbers or of lists, or to a column a candidate."
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
