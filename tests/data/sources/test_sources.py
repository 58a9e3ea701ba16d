from __future__ import annotations

import json
import shlex
from pathlib import Path

import datasets
import pytest
import yaml

from inbatch.data.formats import files
from inbatch.data.formats.columns import Roles
from inbatch.data.sources import sources
from inbatch.data.sources.sources import Source, as_sources, load
from inbatch.data.views.named import Triplet
from inbatch.errors import MissingError, UsageError
from inbatch.text.ids import text_id
from inbatch.views import Views

PAIRS = {"query": ["a", "b"], "answer": ["x", "y"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each format with the same two pairs, in the working directory."""
    monkeypatch.chdir(tmp_path)
    rows = datasets.Dataset.from_dict(PAIRS)
    rows.to_csv("pairs.csv", index=False)
    rows.to_csv("pairs.tsv", index=False, sep="\t")
    rows.to_json("pairs.jsonl")
    rows.to_parquet("pairs.parquet")
    rows.save_to_disk("saved")
    datasets.DatasetDict(train=rows, dev=rows.select([1])).save_to_disk("splits")
    return tmp_path


@pytest.mark.parametrize(
    "path", ["pairs.csv", "pairs.tsv", "pairs.jsonl", "pairs.parquet", "saved", "splits", "./pairs.csv"]
)
def test_all_formats_give_the_same_table(folder, path):
    table = load(Source(path))
    assert table.rows[[1, 0]] == {"query": ["b", "a"], "answer": ["y", "x"]}
    assert str(table.roles) == "anchor = query; positive = answer (by name)"
    assert (len(table), table.dropped, table.name) == (2, 0, path)


def test_a_changed_file_is_read_again(folder):
    Path("a.txt").write_text("one\ntwo\n")
    assert load(Source("a.txt")).rows["text"][:] == ["one", "two"]
    Path("a.txt").write_text("three\n")
    assert load(Source("a.txt")).rows["text"][:] == ["three"]


def test_an_unchanged_file_is_parsed_once(folder, monkeypatch):
    load(Source("pairs.csv"))

    def read_no_row(*args):
        schema, _ = files.read(*args)
        return schema, (pytest.fail("the rows are parsed again") for _ in [0])

    monkeypatch.setattr(sources, "read", read_no_row)
    assert len(load(Source("pairs.csv"))) == 2


def test_the_same_file_with_other_columns_is_another_table(folder):
    assert load(Source("pairs.csv", columns={"anchor": "answer"})).rows.column_names == ["answer"]
    assert load(Source("pairs.csv")).rows.column_names == ["query", "answer"]


def test_a_file_without_names_is_read_by_numbers(folder):
    Path("n.tsv").write_text("1\ta man\ta person\n2\ta dog\tan animal\n")
    table = load(Source("n.tsv", columns={"anchor": 1, "positive": 2, "score": 0}))
    assert table.rows[:] == {"1": ["a man", "a dog"], "2": ["a person", "an animal"], "0": [1.0, 2.0]}


SENTENCES = ["A man sings.", "Ein Hund läuft, er bellt.", "今天天气很好。", "كيف حالك؟"]


def pairs_of(path: str, **given) -> list[tuple]:
    table = load(Source(path, **given))
    return list(zip(*(table.rows[name][:] for name in table.roles.used)))


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("anchor;positive\n", "{0};{1}"),
        ("anchor\tpositive\n", "{0}\t{1}"),
        ("anchor|positive\r\n", "{0}|{1}"),
        ("sep=;\nanchor;positive\n", "{0};{1}"),
        ("anchor,positive\n", '"{0}","{1}"'),
        (",anchor,positive\n", '{i},"{0}","{1}"'),
        ("id;anchor;positive\n", "{i};{0};{1}"),
        ("anchor;uuid;positive\n", "{0};123e4567-e89b-12d3-a456-42661417400{i};{1}"),
        ("Unnamed: 0;;positive;anchor\n", "{i};{i};{1};{0}"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_csv_is_read_as_meant(folder, head, row, encoding):
    expected = list(zip(SENTENCES, SENTENCES[::-1]))
    text = head + "\n".join(row.format(*pair, i=i) for i, pair in enumerate(expected))
    Path("a.csv").write_bytes(text.encode(encoding))
    assert pairs_of("a.csv") == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "saved.folder"])
@pytest.mark.parametrize(
    "ids", [range(8), [f"q-{i}" for i in range(8)], [f"123e4567-e89b-12d3-a456-42661417400{i}" for i in range(8)]]
)
def test_ids_in_front_are_never_the_anchor_in_any_format(folder, name, ids):
    rows = datasets.Dataset.from_dict({"key": list(ids), "one": ["A b."] * 8, "two": ["C d."] * 8})
    {"a.jsonl": rows.to_json, "a.parquet": rows.to_parquet, "saved.folder": rows.save_to_disk}[name](name)
    roles = load(Source(name)).roles
    assert str(roles) == "anchor = one; positive = two (by order; left out as identifiers: key)"


def test_a_line_of_a_refusal_says_all_that_is_left_open(folder):
    Path("a.csv").write_bytes("key;satz;frage\nk;Hallo Welt;Wer ist da\n".encode("utf-16-le"))
    with pytest.raises(UsageError) as error:
        load(Source("a.csv", weight=2.0))
    lines = [
        word.removeprefix("--data.sources=") for word in shlex.split(str(error.value)) if word.startswith("--data")
    ]
    sources_ = [Source(**yaml.safe_load(line.rstrip(";"))) for line in lines]
    assert all((source.encoding, source.weight) == ("utf-16-le", 2.0) for source in sources_)
    found = [pairs_of(**vars(source)) for source in sources_]
    assert [("Hallo Welt", "Wer ist da")] in found
    assert [("k", "Hallo Welt", "Wer ist da")] in found
    assert [("satz", "frage"), ("Hallo Welt", "Wer ist da")] in found


def test_an_unknown_encoding_is_refused_with_the_line_that_reads_it(folder):
    Path("a.csv").write_bytes("anchor;positive\nMüller;Größe\n".encode("cp1252"))
    with pytest.raises(
        UsageError,
        match=r"if 'üller;Größe' is right: '--data.sources={path: a.csv, encoding: cp1252}'|encoding: cp1252",
    ):
        load(Source("a.csv"))
    assert pairs_of("a.csv", encoding="cp1252") == [("Müller", "Größe")]


def test_na_is_text_unless_it_is_set_to_be_empty(folder):
    Path("a.csv").write_text("anchor,positive\nNA,null\nnan,b\nN/A none,c\n")
    assert pairs_of("a.csv") == [("NA", "null"), ("nan", "b"), ("N/A none", "c")]
    assert load(Source("a.csv")).how.endswith(
        "; 3 cells such as NA, null, nan are texts (na_as_empty: true makes them empty)"
    )
    assert "such as NA" not in load(Source("a.csv", na_as_empty=True)).how
    assert pairs_of("a.csv", na_as_empty=True) == [("N/A none", "c")]
    assert pairs_of("a.csv", na_as_empty=True, empty="keep")[:2] == [("", ""), ("", "b")]


def test_a_decimal_comma_is_one(folder):
    Path("a.csv").write_text("satz;frage;wert\n" + "Ein Satz hier.;Noch einer.;0,85\n" * 3)
    assert pairs_of("a.csv")[0] == ("Ein Satz hier.", "Noch einer.", 0.85)
    Path("b.csv").write_text("satz;frage;wert\n" + "".join(f"Ein Satz.;Noch {i}.;0,{i}5\n" for i in range(9)))
    assert pairs_of("b.csv")[8] == ("Ein Satz.", "Noch 8.", 0.85)


def test_settings_reach_the_table(folder):
    Path("e.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [{"query": "", "pos": "x", "neg": ["1", "2"]}]))
    table = load(Source("e.jsonl", empty="keep", negatives=1))
    assert (len(table), table.negatives) == (1, 1)
    assert load(Source("splits", split="dev")).rows["query"][:] == ["b"]
    assert load(Source("pairs.csv", view="same")).roles.positive is None


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (Source("no.txt"), MissingError, "expected a data file at .*/no.txt; there is none"),
        (Source("no/folder/deep"), MissingError, "expected a data file at"),
        (
            Source("what.pdf"),
            UsageError,
            "ends in .txt, .csv, .tsv, .jsonl, .json, .parquet, where compressed .* behind; got '.pdf'",
        ),
        (Source("noend"), UsageError, "got 'no suffix'"),
        (Source('[{"name": "a.csv"}]'), UsageError, "list of sources with fields out of path, columns, .*; got .*name"),
        (Source("empty.csv"), UsageError, "the file is empty"),
        (Source("pairs.csv", split="train"), UsageError, "a file has no split"),
        (Source("pairs.csv", subset="x"), UsageError, "a file has no split and no subset"),
        (Source("pairs.csv", columns={"anchor": 0, "positive": "answer"}), UsageError, "got both"),
        (Source("pairs.jsonl", columns={"anchor": 0}), UsageError, "no column 0, set as anchor; the columns are query"),
        (Source("pairs.csv", empty="replace"), UsageError, "empty to be drop or keep"),  # type: ignore[arg-type]
        (Source("pairs.jsonl", delimiter=";"), UsageError, "delimiter is a setting of csv and tsv files"),
        (Source("pairs.parquet", encoding="utf-16"), UsageError, "encoding is a setting of text files"),
        (Source("pairs.jsonl", na_as_empty=True), UsageError, "na_as_empty is a setting of csv and tsv files"),
        (Source("saved", header=False), UsageError, "header is a setting of text files"),
        (Source("saved", split="dev"), UsageError, "without splits. Remove split = dev"),
        (Source("splits", split="test"), UsageError, "no split test; the splits are train, dev"),
        (Source("."), UsageError, "written by Dataset.save_to_disk"),
        (Source("hf://datasets/owner/name"), UsageError, "expected hf://datasets/OWNER/NAME/FILE"),
        (Source("hf://datasets/file.txt"), UsageError, "expected hf://datasets/OWNER/NAME/FILE"),
        (Source("hf://datasets/owner//file.txt"), UsageError, "expected hf://datasets/OWNER/NAME/FILE"),
        (Source("environment", split="dev"), UsageError, "train, validation, test"),
    ],
)
def test_what_cannot_be_read_is_refused(folder, source, error, message):
    for name in ("what.pdf", "noend"):
        Path(name).write_text("text")
    Path("empty.csv").touch()
    before = sorted(folder.rglob("*"))
    with pytest.raises(error, match=message):
        load(source)
    assert sorted(folder.rglob("*")) == before


def test_nothing_half_read_stays_in_the_cache(folder, cache):
    Path("a.csv").write_text("query,answer\n" + "a,b\n" * 3000 + "a\n")
    with pytest.raises(UsageError, match="line 3002"):
        load(Source("a.csv"))
    assert list(cache.iterdir()) == []


def test_environment_is_a_source(folder, monkeypatch):
    def pairs(split):
        return datasets.Dataset.from_dict(
            {"anchor": [split], "positive": ["code"], "near_duplicate": [False], "module": ["m"]}
        )

    monkeypatch.setattr(sources, "environment_pairs", pairs)
    assert load(Source("environment")).rows[:] == {"anchor": ["train"], "positive": ["code"]}
    assert load(Source("environment", split="test")).rows["anchor"][:] == ["test"]
    columns = {"anchor": "anchor", "positive": "positive", "negatives": ["neighbour"]}
    assert load(Source("environment", columns=columns)).rows["neighbour"][:] == ["train"]


def test_paths_and_sources_may_be_mixed():
    assert as_sources("a.txt") == [Source("a.txt")]
    assert as_sources(["a.txt", Source("b", weight=2)]) == [Source("a.txt"), Source("b", weight=2)]
    with pytest.raises(UsageError, match="the list is empty"):
        as_sources([])


def test_real_files(test_data: Path):
    wiki = load(Source(str(test_data / "wiki_sentences.txt")))
    assert (len(wiki), wiki.dropped, wiki.roles.positive) == (11_915, 0, None)
    path = str(test_data / "medi_nli_sample.jsonl")
    assert load(Source(path)).roles == Roles("query", "pos", ("neg",), None, "by name", "instruction")
    nli = load(Source(path, columns={"anchor": "query", "positive": "pos", "negatives": ["neg"]}))
    assert (len(nli), nli.negatives) == (1000, 1)


def test_labels_others_and_scores_of_each_candidate_come_from_every_format(folder):
    rows = {
        "q": ["a", "b"],
        "d": ["x", "y"],
        "n": ["u", "v"],
        "s": [0.5, 0.25],
        "t": [0, 1],
        "c": ["h", "i"],
        "k": [3, 4],
    }
    table = datasets.Dataset.from_dict(rows | {"l": [[0.5, 0.0], [0.25, 1.0]]})
    table.remove_columns("l").to_csv("a.csv", index=False)
    table.to_json("a.jsonl")
    table.to_parquet("a.parquet")
    table.save_to_disk("stored")
    columns = {"anchor": "q", "positive": "d", "negatives": ["n"], "label": "k", "others": {"context": "c"}}
    for path in ("a.csv", "a.jsonl", "a.parquet", "stored"):
        for score in (["s", "t"], "l") if path != "a.csv" else (["s", "t"],):
            first = load(Source(path, columns=columns | {"score": score})).first
            assert first == Views("a", "x", ("u",), [0.5, 0.0], others={"context": "h"}, labels=3)


def test_further_texts_are_found_by_number_and_inside_of_nested_columns(folder):
    Path("a.csv").write_text("a b,c d,e f\n" * 3)
    columns = {"anchor": 0, "positive": 1, "others": {"context": 2}}
    assert load(Source("a.csv", columns=columns, header=False)).first.others == {"context": "e f"}
    with pytest.raises(UsageError, match="numbers for a csv or tsv file without a line of names"):
        load(Source("a.csv", columns=columns | {"others": {"context": "c"}}, header=False))
    Path("a.jsonl").write_text('{"q": "a", "c": {"text": "b"}}\n' * 2)
    assert load(Source("a.jsonl", columns={"anchor": "q", "others": {"context": "c"}})).first.others == {"context": "b"}


def test_classes_are_labels_by_their_names(folder):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    datasets.Dataset.from_dict({"text": ["a b", "c d"], "label": [1, 0]}, features).save_to_disk("classes")
    table = load(Source("classes", columns={"anchor": "text", "label": "label"}))
    assert table.how == "label: classes, read as their names"
    assert table.first.labels == text_id("yes")
    assert load(Source("classes")).roles.used == ("text",)  # beside a single column of texts it misleads nobody


def test_a_view_is_part_of_the_settings_that_messages_repeat(folder):
    source = Source("pairs.csv", view=Triplet(2))
    assert source.given == {"view": {"class_path": "inbatch.data.views.named.Triplet", "init_args": {"negatives": 2}}}
    (again,) = as_sources([{"path": "pairs.csv", **source.given}])
    assert again.given == source.given
    with pytest.raises(UsageError, match="view triplet needs negatives"):
        load(again)
