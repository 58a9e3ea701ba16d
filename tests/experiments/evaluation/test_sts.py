import math

import pytest
import torch
from scipy import stats

from inbatch import cli
from inbatch.errors import MissingError, TrainingError, UsageError
from inbatch.experiments.evaluation import sts
from inbatch.experiments.evaluation.senteval import TEST_SETS, Pairs
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder

PAIRS = Pairs(
    "STS12",
    ["a b c", "a b", "x y", "x", "a b c", "p q"],
    ["a b c", "a x", "z w", "x y", "c", "p q r"],
    [5, 2, 0, 3, 1, 4],
    ["one", "one", "one", "two", "two", "two"],
)


def cosines(encoder, pairs):
    return (encoder.encode(pairs.first) * encoder.encode(pairs.second)).sum(1)


def test_three_columns_equal_scipy(bag_of_words):
    score = sts.score(bag_of_words, PAIRS)
    cosine = cosines(bag_of_words, PAIRS)
    parts = [stats.spearmanr(cosine[r], PAIRS.gold[r]).statistic * 100 for r in (slice(0, 3), slice(3, 6))]
    assert score.pairs == 6
    assert score.all == pytest.approx(stats.spearmanr(cosine, PAIRS.gold).statistic * 100)
    assert score.mean == pytest.approx(sum(parts) / 2)
    assert score.wmean == pytest.approx(sum(parts) / 2)


def test_weights_are_the_subsets_sizes(bag_of_words):
    pairs = Pairs("STS12", PAIRS.first, PAIRS.second, PAIRS.gold, ["one"] * 4 + ["two"] * 2)
    cosine = cosines(bag_of_words, pairs)
    one, two = (stats.spearmanr(cosine[r], pairs.gold[r]).statistic * 100 for r in (slice(0, 4), slice(4, 6)))
    score = sts.score(bag_of_words, pairs)
    assert score.mean == pytest.approx((one + two) / 2)
    assert score.wmean == pytest.approx((4 * one + 2 * two) / 6)


def test_each_text_is_encoded_once_with_the_given_limits(bag_of_words):
    sts.score(bag_of_words, PAIRS, max_length=2, token_budget=7)
    (call,) = bag_of_words.calls
    assert len(call["texts"]) == len(set(call["texts"]))
    assert call["max_length"] == 2


def test_a_set_of_one_part_has_equal_columns_and_a_flat_one_has_no_means(bag_of_words):
    whole = Pairs("STS-B", PAIRS.first, PAIRS.second, PAIRS.gold, [""] * 6)
    score = sts.score(bag_of_words, whole)
    assert score.all == score.mean == score.wmean
    flat = Pairs("STS12", PAIRS.first, PAIRS.second, PAIRS.gold, [""] * 6)
    assert sts.score(bag_of_words, flat).mean is None


def test_a_collapsed_encoder_has_no_correlation(bag_of_words, monkeypatch):
    monkeypatch.setattr(bag_of_words, "encode", lambda texts, **_: torch.ones(len(texts), 4) / 2)
    assert math.isnan(sts.score(bag_of_words, PAIRS).all)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_the_command_refuses_a_model_that_embeds_everything_at_one_point(value, loaded, monkeypatch, capsys):
    monkeypatch.setattr(loaded, "encode", lambda texts, **_: torch.full((len(texts), 4), value))
    monkeypatch.setattr(sts.senteval, "read_folder", lambda folder, names: ([PAIRS], []))
    assert cli.main(["evaluate", "sts", "model", "--data-dir", "any", "--sets", "STS12"]) == 4
    captured = capsys.readouterr()
    assert "all 6 pairs of STS12 are equal: model embeds every text at one point" in captured.err
    assert captured.out == ""


def test_some_texts_of_zeros_have_cosine_zero(bag_of_words, monkeypatch):
    plain = bag_of_words.encode
    monkeypatch.setattr(
        bag_of_words, "encode", lambda texts, **_: plain(texts) * torch.tensor([t != "x" for t in texts])[:, None]
    )
    cosine = cosines(bag_of_words, PAIRS)
    assert cosine[3] == 0
    assert sts.score(bag_of_words, PAIRS).all == pytest.approx(stats.spearmanr(cosine, PAIRS.gold).statistic * 100)


@pytest.mark.parametrize("smallest", [1e-10, 1e-5])
def test_lengths_do_not_change_the_score(bag_of_words, monkeypatch, smallest):
    before, plain = sts.score(bag_of_words, PAIRS), bag_of_words.encode

    def unequal(texts, **options):
        return plain(texts) * torch.tensor([smallest if len(text) % 2 else 1 / smallest for text in texts])[:, None]

    monkeypatch.setattr(bag_of_words, "encode", unequal)
    assert sts.score(bag_of_words, PAIRS).all == pytest.approx(before.all)


def test_embeddings_that_are_not_finite_are_refused(bag_of_words, monkeypatch):
    monkeypatch.setattr(bag_of_words, "encode", lambda texts, **_: torch.full((len(texts), 4), math.nan))
    with pytest.raises(TrainingError, match="finite"):
        sts.score(bag_of_words, PAIRS)


def test_average_needs_all_seven_and_rounds_first():
    assert sts.average([70.004] * 6 + [70.006]) == pytest.approx((6 * 70.00 + 70.01) / 7, abs=1e-12)
    assert sts.average([70.0] * 6) is None
    assert sts.average([70.0] * 6 + [None]) is None


def all_sets(monkeypatch, names):
    sets = [Pairs(name, PAIRS.first, PAIRS.second, PAIRS.gold, PAIRS.subset) for name in names]
    missing = [name for name in sts.STS_SETS if name not in names]
    monkeypatch.setattr(sts.senteval, "read_folder", lambda folder, wanted: (sets, missing))


def test_evaluator_averages_the_seven_test_sets_only(bag_of_words, monkeypatch):
    all_sets(monkeypatch, [*TEST_SETS, "STS-B-dev"])
    numbers = sts.Sts("folder")(bag_of_words)
    assert set(numbers) == {*TEST_SETS, "STS-B-dev", "avg"}
    assert numbers["avg"] == pytest.approx(round(numbers["STS12"], 2))


def test_evaluator_without_all_sets_has_no_average(bag_of_words, monkeypatch):
    all_sets(monkeypatch, ["STS12", "STS-B-dev"])
    assert set(sts.Sts("folder")(bag_of_words)) == {"STS12", "STS-B-dev"}


def test_an_empty_folder_and_a_wanted_set_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(MissingError, match="git clone"):
        sts.Sts(str(tmp_path))
    with pytest.raises(MissingError, match=r"expected STS-B-dev in"):
        sts.Sts(str(tmp_path), ["STS-B-dev"])
    with pytest.raises(MissingError, match="--data-dir"):
        sts.Sts(None, ["SICK-R"])


def test_minilm_on_stsb_dev_has_the_published_score(minilm, test_data):
    encoder = Encoder.from_pretrained(minilm)
    numbers = sts.Sts(str(test_data / "senteval"), ["STS-B-dev"])(encoder)
    assert numbers["STS-B-dev"] == pytest.approx(86.72, abs=0.01)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_minilm_has_the_published_scores(minilm, test_data):
    encoder = Encoder.from_pretrained(minilm)
    numbers = sts.Sts(str(test_data / "senteval"), ["STS12", "STS13", "STS14", "STS15", "STS-B"])(encoder)
    published = {"STS12": 72.37, "STS13": 80.60, "STS14": 75.59, "STS15": 85.39, "STS-B": 82.03}
    assert numbers == pytest.approx(published, abs=0.01)


def test_an_encoder_is_checked_with_a_sentence(monkeypatch):
    monkeypatch.setattr(sts.senteval, "read_folder", lambda folder, names: ([PAIRS], []))
    evaluator = sts.Sts("somewhere")
    evaluator.check(Encoder(TinyRandom()))
    asks = Encoder(TinyRandom(), prompts={"query": "{instruction}: "}, default_prompt="query")
    with pytest.raises(UsageError, match="instruction"):
        evaluator.check(asks)
