"""The containers: what goes in comes out in the same role, row and column."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inbatch.views import TokenBatch, Views


def batch(*lengths: int, width: int | None = None, side: str = "right", start: int = 1, **fields) -> TokenBatch:
    """Rows of distinct ids, padded with 0 to ``width``; the slot ``last`` points at each row's last token."""
    width = width or max(lengths)
    ids, mask = torch.zeros(len(lengths), width).long(), torch.zeros(len(lengths), width).long()
    for row, length in enumerate(lengths):
        first = width - length if side == "left" else 0
        ids[row, first : first + length] = torch.arange(start, start + length)
        mask[row, first : first + length] = 1
        start += length
    last = torch.tensor([width - 1 if side == "left" else length - 1 for length in lengths])
    return TokenBatch(ids, mask, slots={"last": last}, **fields)


def tokens(b: TokenBatch) -> list[list[int]]:
    """The real tokens of each row."""
    return [row[mask.bool()].tolist() for row, mask in zip(b.input_ids, b.attention_mask)]


def at_slot(b: TokenBatch) -> list[int]:
    return b.input_ids[torch.arange(len(b)), b.slots["last"]].tolist()


NAMES = st.text("abc_10", min_size=1, max_size=4)
MADE = st.builds(
    Views,
    st.integers(),
    st.integers(),
    st.lists(st.integers(), max_size=12).map(tuple),
    others=st.dictionaries(NAMES, st.integers(), max_size=4),
    score=st.none() | st.floats(0, 1),
    ids=st.none() | st.builds(Views, st.just("i"), st.just("j")),
    instructions=st.none() | st.just(["find"]),
    labels=st.none() | st.integers(),
    source=st.none() | st.integers(),
)


def test_views_iterate_anchor_positive_negatives_then_others_by_name():
    views = Views("a", "p", ("n0", "n1"), others={"positive_2": "pp", "context": "c"})
    assert list(views) == ["a", "p", "n0", "n1", "c", "pp"]
    assert views.names == ("anchor", "positive", "negative_1", "negative_2", "context", "positive_2")
    assert len(views) == 6


def test_map_keeps_roles_and_what_is_no_payload():
    ids = Views(torch.tensor([1]), torch.tensor([2]), (torch.tensor([3]),))
    labels, source = torch.tensor([7]), torch.tensor([0])
    made = Views("a", "pp", ("nnn",), score=torch.tensor([0.5]), ids=ids, labels=labels, source=source)
    views = made.map(len)
    assert (views.anchor, views.positive, views.negatives) == (1, 2, (3,))
    assert views.score.tolist() == [0.5]
    assert views.ids is ids
    assert (views.labels, views.source) == (labels, source)


@given(MADE)
def test_mapping_keeps_names_and_what_is_mapped_back_is_equal(views: Views[int]):
    mapped = views.map(lambda payload: payload + 1)
    assert mapped.names == views.names
    assert len(mapped) == len(views) == len(views.names) == len(list(views))
    assert list(mapped) == [payload + 1 for payload in views]
    assert mapped.map(lambda payload: payload - 1) == views
    assert views.replace_payloads(list(views)) == views


def test_replace_payloads_needs_one_a_role():
    with pytest.raises(ValueError, match="expected 2 payloads, one a role; got 3"):
        Views("a", "p").replace_payloads([1, 2, 3])


def test_views_to_moves_payloads_and_all_tensors_beside_them():
    x = torch.ones(2, dtype=torch.int64)
    ids = Views(x, x, (x,), others={"context": x})
    others = {"context": batch(1, 2)}
    views = Views(
        batch(2, 1), batch(1, 1), (batch(3, 3),), torch.ones(2, 2), ids, others=others, labels=x, source=x
    )  # fmt: skip
    moved = views.to("meta")
    assert all(payload.input_ids.is_meta and payload.slots["last"].is_meta for payload in moved)
    assert moved.score.is_meta
    assert moved.ids.names == views.names
    assert all(i.is_meta for i in moved.ids)
    assert moved.labels.is_meta
    assert moved.source.is_meta


def test_views_to_without_what_is_optional():
    moved = Views(torch.ones(1), torch.ones(1), instructions=["find"]).to("meta")
    assert moved.anchor.is_meta
    assert moved.instructions == ["find"]
    assert (moved.score, moved.ids, moved.labels, moved.source) == (None, None, None, None)


def test_token_batch_to_moves_optional_fields():
    z = torch.zeros(1, 2).long()
    moved = batch(2, token_type_ids=z, position_ids=z).to("meta")
    assert moved.token_type_ids.is_meta
    assert moved.position_ids.is_meta


def test_lengths_and_len():
    b = batch(3, 1, width=5)
    assert len(b) == 2
    assert b.lengths.tolist() == [3, 1]


@pytest.mark.parametrize("side", ["left", "right"])
def test_trim_cuts_padding_on_either_side(side: str):
    b = batch(3, 2, width=7, side=side, token_type_ids=torch.arange(14).view(2, 7))
    t = b.trim()
    assert t.input_ids.shape == (2, 3)
    assert tokens(t) == tokens(b)
    assert at_slot(t) == at_slot(b)
    assert t.token_type_ids[0].tolist() == ([4, 5, 6] if side == "left" else [0, 1, 2])


def test_trim_cuts_both_sides_and_keeps_holes():
    mask = torch.tensor([[0, 1, 0, 1, 0], [0, 1, 0, 0, 0]])
    t = TokenBatch(torch.arange(10).view(2, 5), mask, slots={"mask": torch.tensor([3, 1])}).trim()
    assert t.input_ids.tolist() == [[1, 2, 3], [6, 7, 8]]
    assert t.attention_mask.tolist() == [[1, 0, 1], [1, 0, 0]]
    assert t.slots["mask"].tolist() == [2, 0]


def test_trim_returns_a_full_batch_as_it_is_and_keeps_one_column_of_an_empty_one():
    full = batch(2, 2)
    assert full.trim() is full
    assert TokenBatch(torch.zeros(2, 4).long(), torch.zeros(2, 4).long()).trim().input_ids.shape == (2, 1)
    assert len(full.select(slice(0, 0)).trim()) == 0


def test_select_takes_rows_with_their_slots():
    b = batch(1, 2, 3)
    for rows in (torch.tensor([2, 0]), slice(0, 2)):
        chosen = b.select(rows)
        expected = [2, 0] if isinstance(rows, torch.Tensor) else [0, 1]
        assert tokens(chosen) == [tokens(b)[i] for i in expected]
        assert at_slot(chosen) == [at_slot(b)[i] for i in expected]


@pytest.mark.parametrize("name", ["seeds", "view"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_seeds_and_the_number_of_the_view_stay_with_their_rows(side: str, name: str):
    def rows(*lengths: int, width: int, of: list[int]) -> TokenBatch:
        return batch(*lengths, width=width, side=side, **{name: torch.tensor(of)})

    one, two = rows(3, 1, width=5, of=[70, 71]), rows(2, width=5, of=[72])
    merged = TokenBatch.cat([one, rows(2, width=9, of=[73]), two], side)
    assert getattr(merged, name).tolist() == [70, 71, 73, 72]
    assert getattr(merged.select(torch.tensor([3, 1])).trim(), name).tolist() == [72, 71]
    assert getattr(merged.to("meta"), name).is_meta
    with pytest.raises(ValueError, match=f"expected {name} in all batches or in none; 1 of 2 have it"):
        TokenBatch.cat([one, batch(2)])


lengths = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(st.lists(lengths, min_size=1, max_size=4), st.sampled_from(["left", "right"]), st.integers(0, 2))
def test_cat_keeps_every_token_and_slot(groups: list[list[int]], side: str, spare: int):
    parts = [batch(*group, width=max(group) + spare, side=side, start=1 + 100 * i) for i, group in enumerate(groups)]
    merged = TokenBatch.cat(parts, padding_side=side, pad_token_id=77)
    assert tokens(merged) == [row for part in parts for row in tokens(part)]
    assert at_slot(merged) == [token for part in parts for token in at_slot(part)]
    assert merged.lengths.tolist() == [length for group in groups for length in group]
    assert tokens(merged.trim()) == tokens(merged)
    assert at_slot(merged.trim()) == at_slot(merged)


@pytest.mark.parametrize(("side", "row"), [("left", [77, 9, 1]), ("right", [9, 1, 77])])
def test_cat_pads_ids_with_the_given_token_and_the_rest_with_zero(side: str, row: list[int]):
    ones = torch.ones(1, 2).long()
    short = TokenBatch(torch.tensor([[9, 1]]), ones, token_type_ids=ones, position_ids=ones)
    long = TokenBatch(*[torch.ones(1, 3).long()] * 4)
    merged = TokenBatch.cat([short, long], side, 77)
    zeros = [0, 1, 1] if side == "left" else [1, 1, 0]
    assert merged.input_ids[0].tolist() == row
    assert merged.attention_mask[0].tolist() == zeros
    assert merged.token_type_ids[0].tolist() == zeros
    assert merged.position_ids[0].tolist() == zeros


def test_cat_refuses_a_field_that_only_some_batches_have():
    z = torch.zeros(1, 2).long()
    with pytest.raises(ValueError, match="expected token_type_ids in all batches or in none; 1 of 2 have it"):
        TokenBatch.cat([batch(2), batch(2, token_type_ids=z)])


def test_cat_keeps_the_slots_that_all_batches_have():
    one, two = (TokenBatch(*[torch.zeros(2, 3).long()] * 2, slots=slots) for slots in (
        {"mask": torch.tensor([0, 1]), "other": torch.tensor([1, 1])}, {"mask": torch.tensor([2, 2])}
    ))  # fmt: skip
    assert {name: found.tolist() for name, found in TokenBatch.cat([one, two]).slots.items()} == {"mask": [0, 1, 2, 2]}
