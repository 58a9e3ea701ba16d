"""Rows without a negative are those whose loss the operator knows no candidate for; every contrast counts them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import on_ranks
from torch.nn.functional import normalize

from inbatch.kernels import log_sum
from inbatch.losses.base import ROWS_WITHOUT_NEGATIVES, parts
from inbatch.losses.combine.matryoshka import Matryoshka
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.dclr import DCLR
from inbatch.losses.contrastive.guided import Guided
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.lone_rows import lone_rows
from inbatch.losses.contrastive.momentum_queue import MomentumQueue
from inbatch.losses.contrastive.own_negatives import OwnNegatives
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.networks.reference import Reference
from inbatch.text.tokens import tokenize
from inbatch.views import Views


@given(st.integers(1, 7), st.integers(0, 4), st.integers(0, 10**6), st.sets(st.sampled_from("icgew")))
@settings(max_examples=150, deadline=None)
def test_equals_the_rows_whose_log_sum_is_minus_infinity(b, more, seed, rules):
    generator = torch.Generator().manual_seed(seed)
    own = int(torch.randint(0, more + 1, (1,), generator=generator))
    query = normalize(torch.randn(b, 3, generator=generator), dim=1)
    key = normalize(torch.randn(b + more, 3, generator=generator), dim=1)
    given: dict[str, Any] = {}
    extra = None
    if "i" in rules:
        lowest = -1 if "w" in rules else 0
        given["query_ids"] = torch.randint(lowest, 3, (b, 2), generator=generator)
        given["key_ids"] = torch.randint(lowest, 3, (b + more, 2), generator=generator)
    if "c" in rules:
        given["ceiling"] = torch.randn(b, generator=generator) - 0.5
    if "g" in rules:
        given["guide"] = (query.flip(1), key.flip(0), torch.randn(b, generator=generator) - 0.5)
    if "e" in rules:
        extra = torch.randn(b, 1, generator=generator).masked_fill(
            torch.rand(b, 1, generator=generator) < 0.5, -torch.inf
        )
    expected = log_sum(query, key, scale=1.0, own=own, **given).isneginf()
    if extra is not None:
        expected &= extra.isneginf().all(1)
    assert lone_rows(query, key, own, extra=extra, **given).tolist() == expected.tolist()


def views(same, negatives=1, rows=4):
    """Return embeddings whose first ``same`` rows hold one and the same pair of texts."""
    generator = torch.Generator().manual_seed(0)
    texts = [0] * same + list(range(1, rows - same + 1))
    a, p, *rest = (torch.randn(rows, 32, generator=generator)[texts] for _ in range(2 + negatives))
    ids = torch.tensor(texts) * 10
    return Views(a, p, tuple(rest), ids=Views(ids, ids + 1, tuple(ids + 2 + i for i in range(negatives))))


def encoder():
    return Encoder(TinyRandom("bert", num_layers=1))


def texts_of(z, live):
    """Return as many texts, equal where the ids are."""
    return z.ids.map(lambda ids: tokenize(live.tokenizer, [f"text {i}" for i in ids.tolist()]))


def reference(tmp_path):
    encoder().save_pretrained(tmp_path / "reference")
    return Reference(str(tmp_path / "reference"))


OBJECTIVES = {
    "infonce": lambda _: InfoNCE(),
    "symmetric": lambda _: InfoNCE(symmetric=True),
    "matryoshka": lambda _: Matryoshka(InfoNCE(), [8, 16, 32]),
    "queue": lambda _: MomentumQueue(4),
    "dclr": lambda folder: DCLR(reference(folder), threshold=2.0, noise_ratio=0.0),
    "guided": lambda folder: Guided(reference(folder), margin=-3.0),
    "hinge": lambda _: EnergyHinge(),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_contrast_counts_a_batch_of_one_pair_and_no_other(name, tmp_path):
    live, objective = encoder(), OBJECTIVES[name](tmp_path)
    for part in parts(objective):
        part.attach(live)
    for same, count in ((4, 4), (3, 0), (1, 0)):
        z = views(same, negatives=0)
        output = objective(z, texts_of(z, live), live)
        assert output.logs[ROWS_WITHOUT_NEGATIVES] == count
        assert (float(output.loss) == 0) == (count == 4)
        objective = OBJECTIVES[name](tmp_path / str(same))  # a queue holds other texts from now on
        for part in parts(objective):
            part.attach(live)


def test_hard_negatives_are_negatives_unless_they_are_the_rows_own_texts():
    z = views(4)
    assert InfoNCE()(z, None, None).logs[ROWS_WITHOUT_NEGATIVES] == 0
    assert InfoNCE(hard_negative_weight=0.5)(z, None, None).logs[ROWS_WITHOUT_NEGATIVES] == 0
    assert OwnNegatives()(z, None, None).logs[ROWS_WITHOUT_NEGATIVES] == 0
    z.ids.negatives[0][:2] = z.ids.anchor[:2]
    assert OwnNegatives()(z, None, None).logs[ROWS_WITHOUT_NEGATIVES] == 2
    z.ids.negatives[0][:] = z.ids.anchor
    for objective in (InfoNCE(), InfoNCE(hard_negative_weight=0.5), OwnNegatives(), EnergyHinge()):
        assert objective(z, None, None).logs[ROWS_WITHOUT_NEGATIVES] == 4


def test_rows_lose_their_negatives_to_a_margin():
    z = views(1)
    assert InfoNCE(false_negative_margin=-3.0)(z, None, None).logs[ROWS_WITHOUT_NEGATIVES] == 4
    assert InfoNCE(false_negative_margin=3.0)(z, None, None).logs[ROWS_WITHOUT_NEGATIVES] == 0
    learnt = InfoNCE(false_negative_margin=-3.0, learn_temperature=True)
    output = learnt(z, None, None)
    assert output.logs[ROWS_WITHOUT_NEGATIVES] == 4
    assert not output.logs[ROWS_WITHOUT_NEGATIVES].requires_grad


def test_terms_of_a_sum_count_under_their_names():
    logs = WeightedSum({"contrast": InfoNCE(), "hinge": EnergyHinge()})(views(4, 0), None, None).logs
    assert {tag: float(logs[tag]) for tag in logs if "rows" in tag} == {
        "contrast/rows_without_negatives": 4,
        "hinge/rows_without_negatives": 4,
    }


def test_without_ids_only_a_row_alone_has_no_negative():
    for rows, count in ((1, 1), (2, 0)):
        z = views(rows, 0, rows)
        assert InfoNCE()(Views(z.anchor, z.positive), None, None).logs[ROWS_WITHOUT_NEGATIVES] == count


def _counts_on(rank: int, counts: list[int], ids: list[int]) -> list[float]:
    """Return what a rank logs of its share of the rows, whose texts have these ids."""
    mine = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    z = torch.randn(len(ids), 6, generator=torch.Generator().manual_seed(0))
    same = torch.tensor(ids)
    part = Views(z[mine], z[mine].roll(1, 1), ids=Views(same[mine], same[mine] + 10))
    objectives = (InfoNCE(), InfoNCE(symmetric=True), EnergyHinge())
    return [float(objective(part, None, None).logs[ROWS_WITHOUT_NEGATIVES]) for objective in objectives]


@pytest.mark.parametrize(("ids", "lone"), [([0] * 7, 7), ([0, 0, 0, 0, 1, 1, 1], 0), ([0] * 6 + [1], 0)])
def test_ranks_count_the_rows_of_all_of_them(ids, lone):
    counts = [4, 3]
    results = on_ranks(2, _counts_on, counts, ids)
    assert [sum(of) / 2 for of in zip(*results)] == [lone] * 3  # the mean over ranks is what is logged
    assert _counts_on(0, [7], ids) == [lone] * 3
