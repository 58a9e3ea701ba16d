from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset, concatenate_datasets

from inbatch.data.sources import fingerprint as module
from inbatch.data.sources.fingerprint import file_fingerprint, fingerprint

TEXTS = [f"text {i}" for i in range(50)]
LISTS = [[f"n {i}", f"m {i}"] for i in range(50)]


def table(texts: list[str] = TEXTS, lists: list[list[str]] = LISTS) -> Dataset:
    return Dataset.from_dict({"anchor": texts, "negatives": lists, "score": [i / 7 for i in range(len(texts))]})


def test_the_same_cells_have_one_fingerprint_however_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BLOCK", 7)
    whole = table()
    same = {
        "in chunks": concatenate_datasets([whole.select(range(3)), whole.select(range(3, 50))]),
        "by numbers": concatenate_datasets([whole, whole]).select([*range(50)]),
        "from behind": concatenate_datasets([whole, whole]).select([*range(50, 100)]),
        "columns turned": whole.select_columns(["score", "negatives", "anchor"]),
        "formatted": whole.with_format("numpy"),
    }
    whole.save_to_disk(tmp_path / "saved")
    same["saved"] = Dataset.load_from_disk(str(tmp_path / "saved"))
    assert {name: fingerprint(rows) for name, rows in same.items()} == dict.fromkeys(same, fingerprint(whole))


@pytest.mark.parametrize(
    "other",
    [
        table([*TEXTS[:20], "text 20.", *TEXTS[21:]]),
        table([*TEXTS[:-1], ""]),
        table(TEXTS[:-1], LISTS[:-1]),
        table(TEXTS, [*LISTS[:-1], ["n 49", "m 50"]]),
        table(TEXTS, [*LISTS[:-2], ["n 48"], ["m 48", "n 49", "m 49"]]),
        table([TEXTS[1], TEXTS[0], *TEXTS[2:]]),
        table([TEXTS[0] + TEXTS[1], "", *TEXTS[2:]]),
        table().rename_column("anchor", "query"),
        table().remove_columns("score"),
    ],
    ids=["a letter", "an emptied text", "a row less", "in a list", "moved between lists", "turned", "moved", "renamed", "dropped"],
)  # fmt: skip
def test_any_other_cell_shows(other: Dataset):
    assert fingerprint(other) != fingerprint(table())


def test_a_missing_score_is_not_zero():
    schema = pa.schema({"anchor": pa.string(), "score": pa.float64()})
    made = [Dataset(pa.table({"anchor": ["a"], "score": [value]}, schema=schema)) for value in (None, 0.0)]
    assert fingerprint(made[0]) != fingerprint(made[1])


def test_of_a_large_table_first_last_and_spaced_blocks_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BLOCK", 5)
    monkeypatch.setattr(module, "_READ", table().data.nbytes // 2)
    assert module._starts(50, table().data.nbytes) == [0, 10, 20, 30, 45]
    assert fingerprint(table(["x", *TEXTS[1:]])) != fingerprint(table())
    assert fingerprint(table([*TEXTS[:-1], "x"])) != fingerprint(table())
    assert fingerprint(table([*TEXTS[:5], "x", *TEXTS[6:]])) == fingerprint(table())  # the price


@pytest.mark.parametrize(("count", "most", "numbers"), [(5, 9, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8]), (9, 0, [0, 8]), (1, 0, [0]), (0, 3, [])])  # fmt: skip
def test_spaced_numbers_have_both_ends(count: int, most: int, numbers: list[int]):
    assert module._spaced(count, most) == numbers


@pytest.mark.parametrize("change", [0, 70_000, 199_999])
def test_a_changed_byte_of_a_file_shows(tmp_path: Path, change: int):
    content = bytearray(i % 251 for i in range(200_000))
    (tmp_path / "a").write_bytes(content)
    before = file_fingerprint(tmp_path / "a")
    (tmp_path / "b").write_bytes(content)
    assert file_fingerprint(tmp_path / "b") == before
    content[change] ^= 1
    (tmp_path / "a").write_bytes(content)
    assert file_fingerprint(tmp_path / "a") != before


def test_a_large_file_is_read_in_pieces(tmp_path: Path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    before = file_fingerprint(path)
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert file_fingerprint(path) != before
