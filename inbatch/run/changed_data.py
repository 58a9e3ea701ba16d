"""Whether the rows that a run began with are still those that lie under the same names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inbatch.data.sources.fingerprint import fingerprint
from inbatch.data.sources.sources import ENVIRONMENT, as_sources, load
from inbatch.data.sources.tables import Table
from inbatch.errors import InbatchError, UsageError

# Raise it when the same rows get another fingerprint; those of other versions are not compared.
VERSION = 1


def describe_data(tables: Iterable[Table]) -> list[dict[str, Any]]:
    r"""Return what a run notes of its data: each source's name, number of rows and fingerprint.

    Example:
        >>> from unittest.mock import patch
        >>> _ = Path("described.csv").write_text("anchor,positive\na cat,a kitten\na dog,a puppy\n")
        >>> with patch.dict("os.environ", INBATCH_CACHE="cache"):
        ...     (noted,) = describe_data([load(as_sources("described.csv")[0])])
        >>> noted["source"], noted["rows"], len(noted["fingerprint"])
        ('described.csv', 2, 16)
    """
    return [
        {"source": table.name, "rows": len(table.rows), "version": VERSION, "fingerprint": fingerprint(table.rows)}
        for table in tables
    ]


def changes(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each source that has changed what it was and is; of runs that noted nothing, nothing.

    Example:
        >>> then = [{"source": "pairs.csv", "rows": 1000, "version": 1, "fingerprint": "5b1f"}]
        >>> changes(then, [{"source": "pairs.csv", "rows": 1200, "version": 1, "fingerprint": "c07a"}])
        ['pairs.csv (1,000 rows then, 1,200 now)']
        >>> changes(then, then)
        []
    """
    said = []
    for old, new in zip(then, now):
        if old["version"] != new["version"] or old["fingerprint"] == new["fingerprint"]:
            continue
        rows = f"{old['rows']:,} rows then, {new['rows']:,} now" if old["rows"] != new["rows"] else "other texts"
        said.append(f"{new['source']} ({rows})")
    return said


def refuse_changed_data(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to go on with other rows than those of the start before.

    Raises:
        UsageError: naming the sources, and how to go on, or to begin anew.

    Example:
        >>> then = [{"source": "pairs.csv", "rows": 1000, "version": 1, "fingerprint": "5b1f"}]
        >>> refuse_changed_data(then, [{"source": "pairs.csv", "rows": 1000, "version": 1, "fingerprint": "c07a"}])
        Traceback (most recent call last):
        inbatch.errors.UsageError: the data have changed since this run trained on them: pairs.csv (other texts). Bring them back,
        or set --fresh=true to start anew beside it, or --accept_changed_data=true to go on with what is there now.
    """
    if said := changes(then, now):
        raise UsageError(
            f"the data have changed since this run trained on them: {'; '.join(said)}. Bring them back, or set --fresh=true to start "
            "anew beside it, or --accept_changed_data=true to go on with what is there now."
        )


def note_on_changed_data(then: Sequence[Mapping[str, Any]], sources: Any) -> str | None:
    r"""Say of a finished run that what lies under the names of its data is something else now; None where nothing is to say.

    Args:
        then: what the run noted.
        sources: of its configuration, as `as_sources` takes them; what would have to be asked from a network is left out.

    Example:
        >>> from unittest.mock import patch
        >>> _ = Path("shortened.csv").write_text("anchor,positive\na cat,a kitten\na dog,a puppy\n")
        >>> then = [{"source": "shortened.csv", "rows": 1000, "version": VERSION, "fingerprint": "5b1f"}]
        >>> with patch.dict("os.environ", INBATCH_CACHE="cache"):
        ...     note_on_changed_data(then, "shortened.csv")
        'the data have changed since: shortened.csv (1,000 rows then, 2 now)'
    """
    said = []
    for old, source in zip(then, as_sources(sources)):
        if source.path != ENVIRONMENT and not Path(source.path).expanduser().exists():
            continue
        try:
            said += changes([old], describe_data([load(source)]))
        except InbatchError as error:
            said.append(f"{source.path} cannot be read as before: {error}")
    return f"the data have changed since: {'; '.join(said)}" if said else None
