import json
import re

import numpy as np
import pytest
import torch

from inbatch import cli
from inbatch.errors import TrainingError, UsageError
from inbatch.experiments.evaluation import retrieval
from inbatch.experiments.evaluation.corpus import Judged
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder

ROWS = Judged(
    "toy",
    ["red fox", "blue sea", "red fox", "old tree"],
    [["the red fox runs"], ["a blue sea"], ["fox"], ["something else"]],
    ["blue sky"],
    [False, True, True, False],
)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(retrieval, "read_judged", lambda source, split, limit: ROWS)


def test_rows_of_one_query_are_one_query_with_several_documents():
    task = retrieval.Task.of(ROWS)
    assert task.queries == ["red fox", "blue sea", "old tree"]
    assert task.documents == ["the red fox runs", "a blue sea", "fox", "something else", "blue sky"]
    assert task.relevant.tolist() == [[0, 2], [1, -1], [3, -1]]
    assert task.near_duplicate.tolist() == [False, True, False]


def test_equal_documents_are_one_candidate():
    task = retrieval.Task.of(Judged("x", ["a", "b", "c"], [["same"], ["same"], ["other"]], [], None))
    assert task.documents == ["same", "other"]
    assert task.relevant.tolist() == [[0], [0], [1]]
    assert task.near_duplicate is None


def test_a_text_that_finds_itself_is_refused():
    with pytest.raises(UsageError, match="one text twice"):
        retrieval.Task.of(Judged("x", ["a", "b"], [["a"], ["b"]], [], None))


def test_one_document_is_refused():
    with pytest.raises(UsageError, match="2 different documents"):
        retrieval.Task.of(Judged("x", ["a", "b"], [["c"], ["c"]], [], None))


def test_scores_with_and_without_near_duplicates(toy, bag_of_words):
    numbers = retrieval.Retrieval("any")(bag_of_words)
    # "red fox": both documents first; "blue sea": first; "old tree": shares no word, so ties put its document last.
    assert numbers["mrr"] == pytest.approx((1 + 1 + 1 / 5) / 3)
    assert numbers["recall_at_1"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert numbers["recall_at_10"] == 1
    assert numbers["without_near_duplicates/mrr"] == pytest.approx((1 + 1 / 5) / 2)
    assert set(numbers) == {
        f"{part}{metric}"
        for part in ("", "without_near_duplicates/")
        for metric in ("mrr", "recall_at_1", "recall_at_10", "recall_at_100", "ndcg_at_10")
    }


def test_each_side_has_its_prompt_and_length(toy, bag_of_words):
    retrieval.Retrieval("any", max_length={"query": 3, "document": 9})(bag_of_words)
    retrieval.Retrieval("any", max_length=5)(bag_of_words)
    assert [(c["prompt_name"], c["max_length"]) for c in bag_of_words.calls] == [
        ("query", 3),
        ("document", 9),
        ("query", 5),
        ("document", 5),
    ]


def test_an_encoder_is_checked_with_a_query_and_a_document(toy):
    instructed = Encoder(TinyRandom(), prompts={"query": "{instruction}: "})
    with pytest.raises(UsageError, match="instruction"):
        retrieval.Retrieval("any").check(instructed)
    retrieval.Retrieval("any", instruction="find").check(instructed)
    unplaced = Encoder(TinyRandom("bert", learned_tokens=1), pooling="learned", prompts={"query": "{text}{learned}"})
    with pytest.raises(UsageError, match="pooling `learned` expects"):
        retrieval.Retrieval("any").check(unplaced)


def test_a_length_for_another_role_is_refused(toy):
    with pytest.raises(UsageError, match="got anchor"):
        retrieval.Retrieval("any", max_length={"anchor": 3})


def test_embeddings_that_are_not_finite_are_refused(toy, bag_of_words, monkeypatch):
    monkeypatch.setattr(bag_of_words, "encode", lambda texts, **_: torch.full((len(texts), 4), torch.nan))
    with pytest.raises(TrainingError, match="query embeddings"):
        retrieval.Retrieval("any")(bag_of_words)


def test_command_prints_a_table_and_writes_json(toy, loaded, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert cli.main(["evaluate", "retrieval", "model", "toy.jsonl", "--out", str(out)]) == 0
    screen = capsys.readouterr().out
    assert "model: sum pooling, 4096 dimensions, on cpu" in screen
    assert "4 rows, each query against all 5 documents" in screen
    assert "recall@10" in screen
    assert "without near duplicates      2  0.6000" in screen
    assert cli.main(["evaluate", "retrieval", "model", "toy.jsonl", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(out.read_text())
    assert (result["queries"], result["documents"], result["near_duplicates"]) == (3, 5, 1)
    assert result["scores"]["all"]["mrr"] == pytest.approx(2.2 / 3)


def test_the_command_takes_the_test_split_of_the_environment(monkeypatch, loaded):
    asked = []
    monkeypatch.setattr(
        retrieval, "read_judged", lambda source, split, limit: asked.append((source.path, split)) or ROWS
    )
    cli.main(["evaluate", "retrieval", "model", "environment"])
    cli.main(["evaluate", "retrieval", "model", "environment", "--split", "validation"])
    cli.main(["evaluate", "retrieval", "model", "file.csv"])
    assert asked == [("environment", "test"), ("environment", "validation"), ("file.csv", None)]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nothing.csv"], 3, "nothing.csv"),
        (["environment", "--split", "tset"], 2, "tset"),
        (["environment", "--limit", "0"], 2, "at least 1"),
        (["environment", "--out", "scores.txt"], 2, "ends in .json"),
        (["environment", "--columns", "anchor"], 2, "ROLE=NAME"),
        (["environment", "--spilt", "test"], 2, "--split"),
        ([], 2, "SOURCE"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(words, code, says, loaded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "--limit" in words:
        monkeypatch.setattr("inbatch.data.sources.environment.environment_pairs", lambda split: [])
    assert cli.main(["evaluate", "retrieval", "model", *words]) == code
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_an_instruction_goes_into_the_prompts_that_have_its_place(tmp_path, bag_of_words):
    path = tmp_path / "pairs.csv"
    path.write_text("anchor,positive\nred,red find\nblue,blue find\n")
    bag_of_words.prompts["query"] = "{instruction} "
    plain = retrieval.Retrieval(str(path)).scores(bag_of_words)
    asked = retrieval.Retrieval(str(path), instruction="find").scores(bag_of_words)
    assert plain["all"]["mrr"] == asked["all"]["mrr"] == 1.0
    assert [call["prompt_name"] for call in bag_of_words.calls] == ["query", "document"] * 2


JUDGED = Judged(
    "judged",
    ["red fox", "red fox", "red fox", "blue sea", "lonely"],
    [["red fox runs"], ["red fox"], ["fox"], ["blue sea"], ["lonely"]],
    [],
    None,
    [1.0, 0.0, 2.0, 3.0, -1.0],
)


def judged(scores):
    return Judged("judged", JUDGED.queries, JUDGED.documents, [], None, scores)


def test_a_row_of_score_zero_or_less_is_no_relevant_document_but_a_candidate(bag_of_words, monkeypatch):
    task = retrieval.Task.of(JUDGED)
    assert task.queries == ["red fox", "blue sea"]
    assert task.documents == ["red fox runs", "red fox", "fox", "blue sea", "lonely"]
    assert task.relevant.tolist() == [[0, 2], [3, -1]]
    assert task.gain.tolist() == [[1, 2], [3, 0]]
    assert (task.unanswered, task.answers) == (1, 3)
    monkeypatch.setattr(retrieval, "read_judged", lambda source, split, limit: JUDGED)
    # "red fox" itself, of score 0, comes before both relevant documents; the one of grade 1 before that of grade 2.
    numbers = retrieval.Retrieval("any")(bag_of_words)
    assert numbers["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    first = (1 / np.log2(3) + 2 / np.log2(4)) / (2 + 1 / np.log2(3))
    assert numbers["ndcg_at_10"] == pytest.approx((first + 1) / 2)


def test_the_better_of_two_judgements_of_one_pair_counts():
    rows = Judged("x", ["q", "q", "r"], [["a"], ["a"], ["b"]], [], None, [0.0, 2.0, 1.0])
    task = retrieval.Task.of(rows)
    assert (task.relevant.tolist(), task.gain.tolist()) == ([[0], [1]], [[2.0], [1.0]])


@pytest.mark.parametrize(
    ("scores", "positive_score", "gains"),
    [
        ([0, 1, 0, 1, 1], None, [0, 1, 0, 1, 1]),  # labels
        ([3, 0, 1, 2, -2], None, [3, 0, 1, 2, 0]),  # judgements as TREC has them
        ([4.2, 0.0, 5.0, 3.9, 4.0], 4, [1, 0, 1, 0, 1]),  # similarity
        ([0.9, 0.1, 0.5, 1.0, 0.0], 0.5, [1, 0, 1, 1, 0]),
        ([1, 2, 3, 4, 5], 4, [0, 0, 0, 1, 1]),  # ratings
        ([-0.2, -0.9, -0.5, -0.7, -0.3], -0.5, [1, 0, 1, 0, 1]),  # log-probabilities
    ],
)
def test_what_scores_are_worth(scores, positive_score, gains):
    assert retrieval.gains_of(judged([float(score) for score in scores]), positive_score) == gains


@pytest.mark.parametrize(
    ("scores", "positive_score", "says"),
    [
        ([4.2, 0.0, 5.0, 3.9, 4.0], None, "--positive-score 4,"),
        ([0.2, 0.3, 1.0, 0.5, 0.4], None, "--positive-score 0.8,"),
        ([-0.2, -0.9, -0.5, -0.7, -0.3], None, "--positive-score -0.2,"),
        ([0.0, 0.0, 0.0, 0.0, -1.0], None, "--positive-score 0,"),
        ([1.0, 2.0, 3.0, 2.0, 2.5], 4, "--positive-score 3,"),
        (None, 4, "there is none. Leave it out, or set columns to {anchor: NAME, positive: NAME, score: NAME}."),
    ],
)
def test_scores_that_do_not_say_what_is_relevant_are_refused_with_the_line_to_type(scores, positive_score, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        retrieval.gains_of(judged(scores), positive_score)


def test_the_command_reads_scores_out_of_a_file_and_says_the_rule(loaded, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INBATCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "pairs.csv"
    rows = zip(JUDGED.queries, JUDGED.documents, [1, 0, 2, 3, -1])
    path.write_text("query,document,score\n" + "".join(f"{q},{d[0]},{s}\n" for q, d, s in rows))
    assert cli.main(["evaluate", "retrieval", "model", str(path)]) == 0
    assert "documents of 3 rows, by score > 0; 1 queries have none and are left out" in capsys.readouterr().out
    assert cli.main(["evaluate", "retrieval", "model", str(path), "--positive-score", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["relevant_rows"], result["queries"], result["unanswered_queries"]) == (2, 2, 1)
    path.write_text(path.read_text().replace(",3\n", ",2.5\n"))
    assert cli.main(["evaluate", "retrieval", "model", str(path)]) == 2
    line = re.search("Give (--positive-score [0-9.]+),", capsys.readouterr().err)[1]
    assert cli.main(["evaluate", "retrieval", "model", str(path), *line.split()]) == 0


def test_lengths_do_not_change_the_order(toy, bag_of_words, monkeypatch):
    before = retrieval.Retrieval("any")(bag_of_words)
    plain, bag_of_words.normalize = bag_of_words.encode, False

    def unequal(texts, **options):
        return plain(texts, **options) * 10.0 ** torch.tensor([len(text) % 7 - 3 for text in texts])[:, None]

    monkeypatch.setattr(bag_of_words, "encode", unequal)
    assert retrieval.Retrieval("any")(bag_of_words) == pytest.approx(before)
