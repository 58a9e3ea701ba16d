"""Pooling against plain loops, with padding on either side and rubbish on the padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inbatch.errors import UsageError
from inbatch.models.heads.pooling import (
    OTHER_LAYER,
    POOLINGS,
    States,
    cls,
    first_last,
    last,
    mask,
    mean,
    with_mask_slot,
)
from inbatch.views import TokenBatch


def padded(rows: list[torch.Tensor], left: bool, fill: float) -> torch.Tensor:
    length = max(len(row) for row in rows) + 1
    out = torch.full((len(rows), length, *rows[0].shape[1:]), fill, dtype=rows[0].dtype)
    for i, row in enumerate(rows):
        out[i, length - len(row) :] = row if left else out[i, length - len(row) :]
        if not left:
            out[i, : len(row)] = row
    return out


@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    left=st.booleans(),
    fill=st.sampled_from([0.0, 3.0, float("nan")]),
    seed=st.integers(0, 1000),
)
def test_every_pooling_equals_a_loop(lengths, left, fill, seed):
    generator = torch.Generator().manual_seed(seed)
    top = [torch.randn(n, 4, generator=generator) for n in lengths]
    bottom = [torch.randn(n, 4, generator=generator) for n in lengths]
    chosen = [seed % n for n in lengths]
    attention = padded([torch.ones(n, dtype=torch.long) for n in lengths], left, 0).long()
    offset = [attention.shape[1] - n if left else 0 for n in lengths]
    mask_places = torch.tensor([c + o for c, o in zip(chosen, offset)])
    spans = torch.tensor([[o + c, o + n] for c, o, n in zip(chosen, offset, lengths)])
    slots = {"mask": mask_places, "text": spans, "learned": torch.stack([mask_places, spans[:, 1] - 1], 1)}
    tokens = TokenBatch(torch.zeros_like(attention), attention, slots=slots)
    states = States(padded(top, left, fill), padded(bottom, left, fill))
    expected = {
        "mean": [t.mean(0) for t in top],
        **{key: [(t.mean(0) + b.mean(0)) / 2 for t, b in zip(top, bottom)] for key in OTHER_LAYER},
        "cls": [t[0] for t in top],
        "last": [t[-1] for t in top],
        "mask": [t[c] for t, c in zip(top, chosen)],
        "mean_text": [t[c:].mean(0) for t, c in zip(top, chosen)],
        "learned": [(t[c] + t[-1]) / 2 for t, c in zip(top, chosen)],
    }
    assert expected.keys() == POOLINGS.keys()
    for name, rows in expected.items():
        torch.testing.assert_close(POOLINGS[name](states, tokens), torch.stack(rows))


@pytest.mark.parametrize("pooling", [mean, first_last])
def test_sums_are_made_in_float32(pooling):
    # In bfloat16 the sum of 1,000 ones sticks at 256.
    ones = torch.ones(1, 1000, 2, dtype=torch.bfloat16)
    tokens = TokenBatch(torch.zeros(1, 1000, dtype=torch.long), torch.ones(1, 1000, dtype=torch.long))
    pooled = pooling(States(ones, ones), tokens)
    assert pooled.dtype == torch.float32
    assert torch.equal(pooled, torch.ones(1, 2))


@pytest.mark.parametrize("pooling", [cls, last, mean])
def test_gradients_reach_tokens_only(pooling):
    hidden = torch.randn(1, 3, 2, requires_grad=True)
    tokens = TokenBatch(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[1, 1, 0]]))
    pooling(States(hidden), tokens).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad[0, 2].eq(0).all()
    assert hidden.grad.abs().sum() > 0


def test_float64_stays_float64():
    tokens = TokenBatch(torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.long))
    assert mean(States(torch.randn(1, 2, 2, dtype=torch.float64)), tokens).dtype == torch.float64


@pytest.mark.parametrize(("name", "layer"), [("first_last", 1), ("first_last_h0", 0), ("avg_top2", -2)])
def test_a_pooling_of_two_layers_without_the_other_is_a_mistake(name, layer):
    tokens = TokenBatch(torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=f"pooling {name} needs .* layer={layer}$"):
        POOLINGS[name](States(torch.randn(1, 2, 2)), tokens)


def test_mask_slot_is_found_and_a_given_one_stays():
    ids = torch.tensor([[1, 9, 2, 0], [9, 1, 2, 3]])
    tokens = TokenBatch(ids, (ids != 0).long())
    assert with_mask_slot(tokens, 9).slots["mask"].tolist() == [1, 0]
    given = TokenBatch(ids, (ids != 0).long(), slots={"mask": torch.tensor([2, 2])})
    assert with_mask_slot(given, 9) is given
    hidden = torch.randn(2, 4, 3)
    assert torch.equal(mask(States(hidden), given), hidden[:, 2])


@pytest.mark.parametrize("row", [[1, 2, 3, 0], [9, 9, 3, 0]])
def test_a_text_without_one_mask_token_is_refused(row):
    ids = torch.tensor([[1, 9, 2, 0], row])
    with pytest.raises(UsageError, match="text 1 of the batch has"):
        with_mask_slot(TokenBatch(ids, (ids != 0).long()), 9)
