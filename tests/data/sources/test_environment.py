from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.sources import docstrings, environment
from inbatch.data.sources.environment import SPLITS, environment_pairs, package_roots, with_neighbours
from inbatch.data.sources.overlap import near_duplicates
from inbatch.errors import UsageError


def function(name: str, summary: str, body: str) -> str:
    return f'def {name}():\n    """{summary}"""\n    {body}\n\n'


def tree(root: Path, files: dict[str, str]) -> list[Path]:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return [root]


def numbered(count: int, start: int = 0) -> str:
    """Functions with texts of their own, of words that no two of them share."""
    return "".join(
        function(
            f"f{i}", f"Return the number {'abcdefghij'[i % 10] * (i + 1)} here.", f"return v{i}, w{i}, x{i}, y{i}, z{i}"
        )
        for i in range(start, start + count)
    )


def pairs(roots: list[Path], split: str = "train", **settings):
    return environment_pairs(split, roots=roots, progress=False, **({"held_out": 5} | settings))


def texts(roots: list[Path], **settings) -> dict[str, list[tuple[str, str]]]:
    tables = {split: pairs(roots, split, **settings) for split in SPLITS}
    return {split: list(zip(table["anchor"], table["positive"])) for split, table in tables.items()}


def test_pairs_say_where_they_lie(tmp_path):
    roots = tree(tmp_path, {"one/__init__.py": numbered(1), "one/two.py": "x = 1\n" + numbered(20, 1)})
    rows = [row for split in SPLITS for row in pairs(roots, split)]
    assert len(rows) == 21
    first = next(row for row in rows if row["name"] == "f0")
    assert (first["module"], first["file"], first["line"]) == ("one", str(tmp_path / "one/__init__.py"), 1)
    assert first["anchor"] == "Return the number a here."
    assert first["positive"] == "def f0():\n    return v0, w0, x0, y0, z0"
    for row in rows:
        assert row["name"] in Path(row["file"]).read_text().splitlines()[row["line"] - 1]
    assert {row["module"] for row in rows} == {"one", "one.two"}


def test_a_neighbour_is_another_anchor_of_the_module_where_there_is_one():
    from datasets import Dataset

    table = Dataset.from_dict({"anchor": list("abcdef"), "module": ["m", "m", "m", "alone", "n", "n"]})
    assert with_neighbours(table)["neighbour"][:] == ["b", "c", "a", "e", "f", "e"]
    last = Dataset.from_dict({"anchor": list("abc"), "module": ["m", "m", "alone"]})
    assert with_neighbours(last)["neighbour"][:] == ["b", "a", "a"]


def test_tests_and_copies_of_other_packages_are_not_read(tmp_path):
    skipped = [
        "a/tests/x.py",
        "a/test_x.py",
        "a/_vendor/x.py",
        "a/.hidden/x.py",
        "inbatch/x.py",
        "site-packages/x.py",
        "a/x.txt",
    ]
    files = {name: numbered(3, 100 * i) for i, name in enumerate(skipped, 1)}
    roots = tree(tmp_path, files | {"a/x.py": numbered(20), "a/inbatch/x.py": numbered(2, 50)})
    assert {row["module"] for split in SPLITS for row in pairs(roots, split)} == {"a.x", "a.inbatch.x"}


def test_splits_have_their_sizes_and_are_disjoint(tmp_path):
    roots = tree(tmp_path, {f"p{i}.py": numbered(10, 10 * i) for i in range(4)})
    parts = texts(roots)
    assert {split: len(part) for split, part in parts.items()} == {"train": 30, "validation": 5, "test": 5}
    assert len({pair for part in parts.values() for pair in part}) == 40
    assert texts(roots) == parts
    assert texts(roots, seed=1) != parts


rows = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=30, max_size=60)


@given(rows, st.integers(0, 3))
def test_no_text_is_on_both_sides_of_a_split_not_even_by_a_chain(rows, seed):
    """Of all pairs, those dropped as repetitions too, none joins a training text with a held-out one."""
    parsed = [[(f"f{i}", i, f"summary {a}", f"code {b}")] for i, (a, b) in enumerate(rows)]
    try:
        batches = list(environment._build(["m"] * len(rows), ["m.py"] * len(rows), parsed, seed, 2))
    except UsageError:
        return  # too few are left
    kept = [row for batch in batches for row in batch.to_pylist()]
    assert len({row["anchor"] for row in kept}) == len({row["positive"] for row in kept}) == len(kept)
    side = {row[column]: row["split"] for row in kept for column in ("anchor", "positive")}
    for a, b in rows:
        sides = {side.get(f"summary {a}"), side.get(f"code {b}")} - {None}
        assert len(sides) <= 1
    assert [SPLITS.index(row["split"]) for row in kept] == sorted(SPLITS.index(row["split"]) for row in kept)


def test_near_duplicates_of_training_code_are_flagged(tmp_path):
    lines = "\n    ".join(f"a{i} = b{i} + c{i}" for i in range(30))
    near = {
        f"n{i}.py": function(f"g{i}", f"Copy number {'xyz'[i] * 3} of it.", f"{lines}\n    return {i}")
        for i in range(3)
    }
    roots = tree(tmp_path, near | {"p.py": numbered(12)})
    tables = {split: pairs(roots, split, held_out=4) for split in SPLITS}
    assert not any(tables["train"]["near_duplicate"])
    train = list(tables["train"]["positive"])
    for split in ("validation", "test"):
        assert tables[split]["near_duplicate"][:] == near_duplicates(tables[split]["positive"][:], train).tolist()
    flagged = [row["name"] for split in SPLITS for row in tables[split] if row["near_duplicate"]]
    in_train = [name for name in tables["train"]["name"] if name.startswith("g")]
    assert sorted(flagged + in_train) == ["g0", "g1", "g2"]


def test_a_large_group_stays_in_train():
    group = np.repeat([0, 100, 101, 102, 103, 104, 105], [20, 1, 1, 1, 1, 1, 1])
    for seed in range(10):
        part = environment._split(group, [str(g) for g in group], seed, 3)
        assert set(part[:20]) == {0}
        assert np.bincount(part).tolist() == [20, 3, 3]


def test_another_package_moves_few_pairs(tmp_path):
    roots = tree(tmp_path, {"a.py": numbered(200)})
    before = set(texts(roots, held_out=40)["test"])
    tree(tmp_path, {"b.py": numbered(20, 200)})
    after = set(texts(roots, held_out=40)["test"])
    assert len(before & after) >= 32


def test_the_corpus_is_built_once_and_again_when_a_file_changes(tmp_path, cache, monkeypatch):
    roots = tree(tmp_path, {"a.py": numbered(20)})
    first = texts(roots)
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert texts(roots) == first
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == written
    tree(tmp_path, {"a.py": numbered(21)})
    assert sum(map(len, texts(roots).values())) == 21
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:500])
    assert sum(map(len, texts(roots).values())) == 21


def test_the_order_does_not_depend_on_processes(tmp_path, monkeypatch):
    roots = tree(tmp_path, {f"p{i:02}.py": numbered(3, 3 * i) for i in range(20)})
    orders = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores), raising=False)
        monkeypatch.setenv("INBATCH_CACHE", str(tmp_path / f"cache{cores}"))
        orders.append(texts(roots))
    assert orders[0] == orders[1]


def test_too_small_an_installation_is_refused(tmp_path, cache):
    with pytest.raises(UsageError, match="at least 15 pairs .* found 14. Install more packages, or set data.sources"):
        pairs(tree(tmp_path, {"a.py": numbered(14)}))
    assert list(cache.iterdir()) == []


def test_an_unknown_split_is_refused():
    with pytest.raises(UsageError, match="one of train, validation, test .* got 'dev'"):
        environment_pairs("dev")


def test_a_reader_that_dies_is_told(tmp_path, monkeypatch):
    dead = tmp_path / "dead.py"
    dead.write_text("input()")
    monkeypatch.setattr(docstrings, "__file__", str(dead))
    with pytest.raises(RuntimeError, match=r"ended while it read .*a\.py"):
        pairs(tree(tmp_path / "root", {"a.py": numbered(20)}))


def test_the_roots_are_the_standard_library_and_site_packages():
    roots = package_roots()
    assert any((root / "json" / "decoder.py").exists() for root in roots)
    assert any((root / "torch" / "__init__.py").exists() for root in roots)
    assert len(set(roots)) == len(roots)


def test_links_that_lead_nowhere_and_hidden_files_are_passed_over(tmp_path):
    expected = pairs(tree(tmp_path / "one", {"a.py": numbered(20)}))
    roots = tree(tmp_path / "two", {"a.py": numbered(20), ".hidden.py": numbered(5, 20)})
    (tmp_path / "two" / "gone.py").symlink_to(tmp_path / "nowhere.py")
    assert pairs(roots)["anchor"][:] == expected["anchor"][:]


@pytest.mark.slow
def test_this_installation_has_a_corpus(capsys):
    tables = {split: environment_pairs(split) for split in SPLITS}
    assert len(tables["train"]) > 10_000
    assert len(tables["validation"]) == len(tables["test"]) == 2000
    for column in ("anchor", "positive"):
        parts = {
            split: {" ".join(text.split()).casefold() for text in table[column]} for split, table in tables.items()
        }
        assert not parts["train"] & (parts["validation"] | parts["test"])
        assert not parts["validation"] & parts["test"]
    share = np.mean(tables["test"]["near_duplicate"][:])
    assert 0 < share < 0.15
    assert "reading installed packages" in capsys.readouterr().err
