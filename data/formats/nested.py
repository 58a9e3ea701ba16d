"""Columns inside of columns: ``translation.en`` is the field ``en`` of the column ``translation``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inbatch.data.formats.columns import OTHER, TEXT, TEXTS

# Objects with more keys than these are a mapping of some other kind, and not fields.
_MOST_FIELDS = 100


def cell(row: Any, name: str) -> Any:
    """Return the cell that a name finds: of the column, else inside of nested ones by dots; None where it is missing.

    Example:
        >>> cell({"translation": {"en": "a", "de": "b"}}, "translation.de")
        'b'
        >>> cell({"passages": [{"text": "a"}, {"text": "b"}]}, "passages.text")
        ['a', 'b']
    """
    if isinstance(row, list):
        return [cell(item, name) for item in row]
    if not isinstance(row, dict):
        return None
    if name in row:
        return row[name]
    for place, letter in enumerate(name):
        if letter == "." and name[:place] in row:
            return cell(row[name[:place]], name[place + 1 :])
    return None


def kinds_of(rows: Sequence[dict[str, Any]], kind_of: Callable[[list[Any]], str]) -> dict[str, str]:
    """Find what each column of some rows holds, and behind it what its fields hold, by dotted names.

    Args:
        rows: a key may be missing in some.
        kind_of: names what cells hold.

    Example:
        >>> from inbatch.data.formats.cells import kind_of
        >>> kinds_of([{"translation": {"en": "tea", "de": "Tee"}, "votes": 3}], kind_of)
        {'translation': 'neither text nor number', 'translation.en': 'text', 'translation.de': 'text', 'votes': 'number'}
    """
    found: dict[str, str] = {}
    names = dict.fromkeys(name for row in rows for name in row)
    for name in names:
        values = [row.get(name) for row in rows]
        found[name] = kind_of(values)
        objects = [item for value in values for item in (value if isinstance(value, list) else [value])]
        fields = dict.fromkeys(key for item in objects if isinstance(item, dict) for key in item)
        if fields and found[name] == OTHER and len(fields) <= _MOST_FIELDS:
            inside = [{key: cell(value, key) for key in fields} for value in values if isinstance(value, (dict, list))]
            nested = {f"{name}.{key}": kind for key, kind in kinds_of(inside, kind_of).items()}
            found |= {key: kind for key, kind in nested.items() if key not in names}
    return found


def offered(kinds: Mapping[str, str]) -> dict[str, str]:
    """Choose the columns among which roles may be found without being set.

    A nested column plays no role itself. Its fields do where it is the only column, or is called ``translation``, as data sets of the
    hub call it, and stands alone or beside an ``id``.

    Example:
        >>> offered({"id": "number", "translation": OTHER, "translation.en": TEXT, "translation.de": TEXT})
        {'translation.en': 'text', 'translation.de': 'text'}
    """
    top = [name for name in kinds if not _parent(name, kinds)]
    nested = [name for name in top if fields_of(name, kinds)]
    if len(nested) == 1 and (top == nested or (nested == ["translation"] and set(top) == {"id", "translation"})):
        return {name: kind for name, kind in kinds.items() if _parent(name, kinds) and not fields_of(name, kinds)}
    # Beside two columns of texts, and as numbers, fields are in no line that is proposed.
    enough = sum(kinds[name] in (TEXT, TEXTS) for name in top) >= 2
    return {
        name: OTHER if name not in top and (enough or kind not in (TEXT, TEXTS)) else kind
        for name, kind in kinds.items()
    }


def spelled(columns: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Name the field in place of its column, where a set column has one field of texts and no more.

    Example:
        >>> kinds = {"question": TEXT, "answers": OTHER, "answers.text": TEXTS, "answers.start": OTHER}
        >>> spelled({"anchor": "question", "positive": "answers"}, kinds)
        {'anchor': 'question', 'positive': 'answers.text'}
    """

    def field(name: Any) -> Any:
        texts = [inner for inner in fields_of(str(name), kinds) if kinds[inner] in (TEXT, TEXTS)]
        return texts[0] if len(texts) == 1 else name

    return {
        role: [field(n) for n in name] if isinstance(name, (list, tuple)) else field(name)
        for role, name in columns.items()
    }


def fields_of(name: str, kinds: Mapping[str, str]) -> list[str]:
    """Return the dotted names inside of a column; none where it holds texts or numbers itself.

    Example:
        >>> kinds = {"question": TEXT, "answers": OTHER, "answers.text": TEXTS, "answers.start": OTHER}
        >>> fields_of("answers", kinds), fields_of("question", kinds)
        (['answers.text', 'answers.start'], [])
    """
    return [key for key in kinds if key.startswith(f"{name}.")] if kinds.get(name) == OTHER else []


def _parent(name: str, kinds: Mapping[str, str]) -> bool:
    return any(letter == "." and kinds.get(name[:place]) == OTHER for place, letter in enumerate(name))
