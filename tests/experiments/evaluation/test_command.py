import json

import pytest

from inbatch import cli
from inbatch.experiments.evaluation import sts
from inbatch.experiments.evaluation.senteval import TEST_SETS, Pairs


@pytest.fixture
def folder(monkeypatch):
    """Stand in for SentEval's folder: all sets but those left out, six pairs each."""

    def make(*left_out):
        columns = (["a b c", "a b", "x y", "x", "a c", "p q"], ["a b c", "a x", "z w", "x y", "c", "p q r"])
        subsets = {True: [""] * 6, False: ["one"] * 4 + ["two"] * 2}
        sets = [
            Pairs(name, *columns, [5, 2, 0, 3, 1, 4], subsets[name.startswith(("STS-B", "SICK"))])
            for name in sts.STS_SETS
            if name not in left_out
        ]
        monkeypatch.setattr(
            sts.senteval, "read_folder", lambda path, names: ([s for s in sets if s.name in names], list(left_out))
        )

    return make


def test_sts_prints_three_columns_and_an_average_of_seven(folder, loaded, capsys):
    folder()
    assert cli.main(["evaluate", "sts", "model", "--data-dir", "d"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "model: sum pooling, 4096 dimensions, on cpu"
    assert lines[3].split() == ["set", "pairs", "all", "mean", "wmean"]
    assert [line.split()[0] for line in lines[5:15]] == [*TEST_SETS, "Avg", "STS-B-dev", "SICK-R-dev"]
    assert "not the 9,927 of MTEB" in lines[-1]


def test_sts_without_all_sets_names_what_is_missing(folder, loaded, capsys, tmp_path):
    folder("STS16", "SICK-R")
    assert cli.main(["evaluate", "sts", "model", "--data-dir", "d", "--json", "--out", str(tmp_path / "s.json")]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result == json.loads((tmp_path / "s.json").read_text())
    assert result["skipped"] == ["STS16", "SICK-R"]
    assert result["avg"] == {"all": None, "mean": None, "wmean": None}
    assert set(result["sets"]["STS12"]) == {"pairs", "all", "mean", "wmean"}
    assert result["pairs"] == 6 * 7
    assert "skipped, not in d: STS16, SICK-R" in printed.err
    cli.main(["evaluate", "sts", "model", "--data-dir", "d"])
    said = capsys.readouterr().out
    assert "No average: that is over all 7 test sets, and STS16, SICK-R are not here. --data-dir takes" in said


@pytest.mark.parametrize(
    ("sets", "count"), [(["STS12"], "1"), (["STS12", "SICK-R", "STS-B-dev"], "2"), (["STS-B-dev"], "none")]
)
def test_sts_of_chosen_sets_says_that_they_were_chosen(folder, loaded, capsys, sets, count):
    folder()
    assert cli.main(["evaluate", "sts", "model", "--data-dir", "d", "--sets", *sets]) == 0
    said = capsys.readouterr().out
    assert f"No average: that is over all 7 test sets, of which --sets names {count}." in said
    assert "--data-dir" not in said


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["stss", "model"], 2, "sts"),
        ([], 2, "{sts,retrieval}"),
        (["sts"], 2, "PATH"),
        (["sts", "model", "--data-dir", "nothing"], 3, "git clone"),
        (["sts", "model", "--data-dir", "."], 3, "git clone"),
        (["sts", "model", "--data-dir", ".", "--sets", "STS17"], 2, "STS17"),
        (["sts", "model", "--data-dir", ".", "--sets", "STSB"], 2, "got STSB. Did you mean STS-B? Set --sets (sets in"),
        (["sts", "model", "--data-dir", ".", "--out", "no/x.json"], 3, "mkdir -p"),
        (["sts", "model", "--data-dr", "."], 2, "--data-dir"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(words, code, says, loaded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *words]) == code
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_wrong_row_counts_end_with_code_2(loaded, tmp_path, capsys):
    (tmp_path / "SICK").mkdir()
    (tmp_path / "SICK/SICK_trial.txt").write_text("id\ta\tb\tscore\tj\n1\tx\ty\t3.0\tNEUTRAL\n")
    assert cli.main(["evaluate", "sts", "model", "--data-dir", str(tmp_path)]) == 2
    assert "expected 500 scored pairs of SICK-R-dev" in capsys.readouterr().err
