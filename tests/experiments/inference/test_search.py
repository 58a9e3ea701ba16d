import io
import json
import sys
import types

import pytest
import torch

from inbatch import cli
from inbatch.errors import TrainingError, UsageError
from inbatch.experiments.evaluation.corpus import Corpus
from inbatch.experiments.inference import search
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder

TEXTS = ["a red fox", "the blue sea", "an old tree", "red and blue"]


def test_nearest_equals_a_sorted_matrix_of_cosines():
    generator = torch.Generator().manual_seed(0)
    query, corpus = torch.randn(7, 5, generator=generator), torch.randn(60, 5, generator=generator)
    corpus *= 10.0 ** torch.randint(-3, 4, (60, 1), generator=generator)
    values, indices = search.nearest(query, corpus, 9)
    expected = torch.cosine_similarity(query[:, None], corpus, dim=2).sort(1, descending=True)
    assert indices.equal(expected.indices[:, :9])
    assert torch.allclose(values, expected.values[:, :9])


def test_nearest_finds_at_most_the_whole_corpus():
    values, indices = search.nearest(torch.eye(2), torch.eye(2), 5)
    assert values.shape == indices.shape == (2, 2)


def test_nearest_refuses_no_result_and_broken_embeddings():
    with pytest.raises(UsageError, match="top=0"):
        search.nearest(torch.eye(2), torch.eye(2), 0)
    with pytest.raises(TrainingError, match="corpus embeddings"):
        search.nearest(torch.eye(2), torch.full((1, 2), torch.nan), 1)


def test_search_uses_a_prompt_for_each_side(bag_of_words):
    values, indices = search.search(bag_of_words, ["fox", "blue"], TEXTS, 2, max_length=8)
    assert indices[:, 0].tolist() == [0, 1]  # of two texts with the word, the shorter
    assert values.dtype == torch.float32
    assert {(call["prompt_name"], call["max_length"]) for call in bag_of_words.calls} == {("query", 8), ("document", 8)}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INBATCH_CACHE", str(tmp_path / "cache"))


def counted(encoder, monkeypatch):
    calls = []
    plain = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts, **options: calls.append(len(texts)) or plain(texts, **options))
    return calls


def test_documents_are_encoded_once_for_the_same_model_and_texts(cache, monkeypatch):
    encoder = Encoder(TinyRandom("bert"), prompts={"document": "text: "})
    calls = counted(encoder, monkeypatch)
    first = search.cached_documents(encoder, TEXTS, "t")
    again = search.cached_documents(encoder, TEXTS, "t")
    assert calls == [4]
    assert first.equal(again)
    assert first.equal(encoder.encode(TEXTS, prompt_name="document"))


@pytest.mark.parametrize("change", ["weights", "texts", "prompt", "pooling", "normalize", "length"])
def test_whatever_changes_a_vector_changes_the_cache(cache, monkeypatch, change):
    encoder = Encoder(TinyRandom("bert"))
    search.cached_documents(encoder, TEXTS, "t")
    texts, options = list(TEXTS), {}
    if change == "weights":
        with torch.no_grad():
            next(encoder.parameters()).view(-1)[5] += 1e-3
    elif change == "texts":
        texts[2] += "."
    elif change == "prompt":
        encoder.prompts["document"] = "passage: "
    elif change == "pooling":
        encoder.pooling = "cls"
    elif change == "normalize":
        encoder.normalize = False
    else:
        options["max_length"] = 3
    calls = counted(encoder, monkeypatch)
    found = search.cached_documents(encoder, texts, "t", **options)
    assert calls == [4]
    assert found.equal(encoder.encode(texts, prompt_name="document", **options))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n  def f(x):\n    return x", "def f(x):"),
        ("@cache\n@other\nasync def f(x):\n    return x", "async def f(x):"),
        ("plain\nsecond", "plain"),
        ("@mention without code", "@mention without code"),
        ("", ""),
        ("word " * 50, "word " * 18 + "word ..."),
    ],
)
def test_first_line(text, line):
    assert search.first_line(text) == line


@pytest.fixture
def corpus(monkeypatch):
    monkeypatch.setattr(
        search, "read_corpus", lambda source, split, limit: Corpus(TEXTS, [f"row {i}" for i in range(len(TEXTS))])
    )


def test_command_prints_hits_with_their_places(loaded, corpus, capsys):
    words = ["search", "model", "texts.txt", "--query", "fox", "--query", "blue sea", "--top", "2", "--no-cache"]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["fox", "  1  0.577  row 0", "            a red fox"]
    assert lines[5:8] == ["", "blue sea", "  1  0.816  row 1"]


def test_queries_come_from_stdin(loaded, corpus, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"fox\n\nsea\n")))
    assert cli.main(["search", "model", "texts.txt", "--top", "1", "--no-cache", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [item["query"] for item in result["searches"]] == ["fox", "sea"]
    assert result["searches"][1]["hits"] == [{"score": 0.57735, "where": "row 1", "text": "the blue sea"}]
    assert result["documents"] == 4


def test_the_second_search_takes_documents_from_the_cache(cache, corpus, monkeypatch, capsys):
    encoder = Encoder(TinyRandom("bert"))
    monkeypatch.setattr(Encoder, "from_pretrained", classmethod(lambda cls, name, **_: encoder))
    calls = counted(encoder, monkeypatch)
    words = ["search", "model", "texts.txt", "--query", "fox"]
    assert cli.main(words) == 0
    first = capsys.readouterr()
    assert cli.main(words) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert f"encoding 4 texts of at most {encoder.max_length} tokens, once" in first.err
    assert "encoding" not in again.err
    assert calls == [4, 1, 1]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nothing.txt", "--query", "fox"], 3, "nothing.txt"),
        (["texts.txt", "--query", "fox", "--top", "0"], 2, "--top"),
        (["texts.txt", "--query", "fox", "--out", "x.txt"], 2, "ends in .json"),
        (["texts.txt", "--querry", "fox"], 2, "--query"),
        (["texts.txt"], 2, "stdin"),
        (["texts.doc", "--query", "fox"], 2, ".txt"),
        (["environment", "--split", "tset", "--query", "fox"], 2, "tset"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(words, code, says, loaded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a\n")
    (tmp_path / "texts.doc").write_text("a\n")
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"")))
    assert cli.main(["search", "model", *words]) == code
    assert says in capsys.readouterr().err
    assert not loaded.calls


def test_vectors_that_are_not_normalised_are_ranked_by_cosine():
    vectors = {"q": [1.0, 0.0], "long": [5.0, 5.0], "near": [1.0, 0.1]}

    class Plain:
        normalize = False

        def encode(self, texts, **_):
            return torch.tensor([vectors[text] for text in texts])

    scores, found = search.search(Plain(), ["q"], ["long", "near"], top=2)
    assert found.tolist() == [[1, 0]]
    assert scores[0].tolist() == pytest.approx([1 / 1.01**0.5, 0.5**0.5])


@pytest.mark.parametrize("words", [[], ["--no-cache"], ["--json"]])
@pytest.mark.parametrize("says_so", [True, False])
def test_the_command_ranks_by_cosine_with_and_without_cache(words, says_so, cache, monkeypatch, capsys):
    texts = ["short and off", "nearly the query", "opposite", "nothing"]
    vectors = torch.tensor([[500.0, 500.0], [1e-3, 1e-4], [-9.0, 0.0], [0.0, 0.0]])
    encoder = Encoder(TinyRandom("bert", hidden_size=32), normalize=False)
    if not says_so:
        encoder.normalize = True  # as one that says that it normalises, and does not

    def encode(asked, **_):
        found = torch.zeros(len(asked), 32)
        for row, text in zip(found, asked):
            row[:2] = vectors[texts.index(text)] if text in texts else torch.tensor([3.0, 0.0])
        return found

    monkeypatch.setattr(encoder, "encode", encode)
    monkeypatch.setattr(Encoder, "from_pretrained", classmethod(lambda cls, name, **_: encoder))
    monkeypatch.setattr(search, "read_corpus", lambda source, split, limit: Corpus(texts, [str(i) for i in range(4)]))
    for _ in range(2):  # the second time out of the cache
        assert cli.main(["search", "model", "texts.txt", "--query", "q", "--top", "4", "--json", *words]) == 0
        hits = json.loads(capsys.readouterr().out)["searches"][0]["hits"]
        assert [hit["text"] for hit in hits] == ["nearly the query", "short and off", "nothing", "opposite"]
        assert [hit["score"] for hit in hits] == pytest.approx([1 / 1.01**0.5, 0.5**0.5, 0, -1], abs=1e-5)


def test_half_a_surrogate_pair_in_queries_and_corpus_is_no_crash(loaded, tmp_path, capsys):
    (tmp_path / "corpus.jsonl").write_text('{"text": "a \\ud83d\\ude00 \\ud800"}\n{"text": "b"}\n')
    command = ["search", "model", str(tmp_path / "corpus.jsonl"), "--query", "caf\udcc3\udca9 \udfff", "--no-cache"]
    assert cli.main(command) == 0
    assert loaded.calls[-1]["texts"] == ["caf\u00e9 \ufffd"]
    assert loaded.calls[0]["texts"] == ["a \U0001f600 \ufffd", "b"]
    assert "caf\u00e9 \ufffd" in capsys.readouterr().out
