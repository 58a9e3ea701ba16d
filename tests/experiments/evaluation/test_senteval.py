import pytest

from inbatch.errors import MissingError, UsageError
from inbatch.experiments.evaluation import senteval
from inbatch.experiments.evaluation.senteval import STS_SETS, StsSet


@pytest.fixture
def small_sets(monkeypatch):
    """The layout's two kinds of sets with a few rows, so that content can be tested without the real files."""
    sets = {
        "STS16": StsSet("STS/STS16-en-test", 3, ("one", "two")),
        "STS-B": StsSet("STS/STSBenchmark/sts-test.csv", 2, columns=(5, 6, 4)),
        "SICK-R": StsSet("SICK/SICK_test_annotated.txt", 2, columns=(1, 2, 3), header=True),
    }
    for name, known in sets.items():
        monkeypatch.setitem(STS_SETS, name, known)


def write(root, path, content):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_subsets(root):
    write(root, "STS/STS16-en-test/STS.input.one.txt", "a  b\tc\nunrated\trow\n")
    write(root, "STS/STS16-en-test/STS.gs.one.txt", "4.5\n\n")
    write(root, "STS/STS16-en-test/STS.input.two.txt", 'd\t"e\r\nf\u2028g\th\r\n')
    write(root, "STS/STS16-en-test/STS.gs.two.txt", "1\r\n0\r\n")


def test_subsets_are_concatenated_without_unrated_rows_and_without_quoting(tmp_path, small_sets):
    write_subsets(tmp_path)
    (pairs,), missing = senteval.read_folder(tmp_path, ["STS16"])
    assert missing == []
    assert pairs.first == ["a b", "d", "f g"]
    assert pairs.second == ["c", '"e', "h"]
    assert pairs.gold == [4.5, 1, 0]
    assert pairs.subset == ["one", "two", "two"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_part_of_a_sentence_or_score(tmp_path, small_sets, encoding):
    write_subsets(tmp_path)
    before = senteval.read_folder(tmp_path, ["STS16"])[0]
    for path in (tmp_path / "STS" / "STS16-en-test").iterdir():
        path.write_bytes(path.read_bytes().decode().encode(encoding))
    assert senteval.read_folder(tmp_path, ["STS16"])[0] == before


def test_tables_and_missing_sets(tmp_path, small_sets):
    write(tmp_path, "STS/STSBenchmark/sts-test.csv", 'g\tf\ty\t1\t5.0\t"a b\tc\ng\tf\ty\t2\t0.5\td\te"\n')
    write(
        tmp_path,
        "SICK/SICK_test_annotated.txt",
        "pair_ID\tA\tB\tscore\tj\n1\tx\ty\t3.5\tNEUTRAL\n2\tx\tz\t1\tNEUTRAL\n",
    )
    sets, missing = senteval.read_folder(tmp_path, ["STS16", "STS-B", "SICK-R"])
    assert missing == ["STS16"]
    assert sets[0].first == ['"a b', "d"]
    assert sets[0].gold == [5.0, 0.5]
    assert sets[1].second == ["y", "z"]
    assert len(sets[1]) == 2


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("STS/STS16-en-test/STS.gs.two.txt", "1\n2\n3\n", "as many scores as pairs in subset two"),
        ("STS/STS16-en-test/STS.gs.two.txt", "1\n\n", "expected 3 scored pairs of STS16 .* got 2"),
        ("STS/STS16-en-test/STS.gs.two.txt", "1\nhigh\n", "expected numbers as scores of STS16"),
        ("STS/STS16-en-test/STS.input.two.txt", "d\te\nno tab\n", "2 columns separated by tabs in line 2"),
        ("STS/STS16-en-test/STS.input.two.txt", b"d\te\nf\t\xff\n", "UTF-8"),
    ],
)
def test_other_content_is_refused(tmp_path, small_sets, path, content, says):
    write_subsets(tmp_path)
    write(tmp_path, path, content)
    with pytest.raises(UsageError, match=says):
        senteval.read_folder(tmp_path, ["STS16"])


def test_a_set_without_one_of_its_files_is_refused(tmp_path, small_sets):
    write_subsets(tmp_path)
    (tmp_path / "STS/STS16-en-test/STS.gs.one.txt").unlink()
    with pytest.raises(MissingError, match=r"STS\.gs\.one\.txt.*git clone"):
        senteval.read_folder(tmp_path, ["STS16"])


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(MissingError, match=r"SentEval's layout.*git clone"):
        senteval.read_folder(tmp_path / "nothing")


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match="got STS17"):
        senteval.read_folder(tmp_path, ["STS12", "STS17"])


def hub(monkeypatch, rows):
    import datasets

    calls = []

    def load_dataset(name, split):
        calls.append((name, split))
        return datasets.Dataset.from_list(
            [{"sentence1": f"a {i}", "sentence2": "b", "score": float(i)} for i in range(rows)]
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_the_hub_gives_pairs_without_subsets(monkeypatch):
    calls = hub(monkeypatch, 1500)
    sets, missing = senteval.read_hub(["STS-B-dev", "SICK-R", "STS13"])
    assert calls == [("mteb/stsbenchmark-sts", "validation"), ("mteb/sts13-sts", "test")]
    assert missing == ["SICK-R"]
    assert sets[0].first[:2] == ["a 0", "a 1"]
    assert set(sets[0].subset) == {""}


def test_a_hub_set_of_another_size_is_refused(monkeypatch):
    hub(monkeypatch, 9927)
    with pytest.raises(UsageError, match=r"expected 1186 scored pairs.*got 9927"):
        senteval.read_hub(["STS16"])


def test_offline_names_the_command_that_fetches(monkeypatch):
    import datasets

    def offline(name, split):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(MissingError, match="hf download --repo-type dataset mteb/sts12-sts"):
        senteval.read_hub(["STS12"])


def test_row_counts_of_the_real_files(test_data):
    sets, missing = senteval.read_folder(test_data / "senteval")
    counts = {pairs.name: len(pairs) for pairs in sets}
    published = {"STS12": 3108, "STS13": 1500, "STS14": 3750, "STS15": 3000, "STS-B": 1379, "STS-B-dev": 1500}
    assert counts.items() >= published.items()
    assert not set(missing) & set(counts)
