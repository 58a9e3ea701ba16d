"""What a rank's rows are contrasted with: its places, its texts, and its share of a mean."""

import pytest
import torch
from ranks import on_ranks

from inbatch.losses.candidates import NO_TEXT, Candidates, own_repeats
from inbatch.views import Views


def rows(first, count, ids=True):
    """Rows that say where they stand: 100 for a positive, 200 for a hard negative; an id is the same number."""
    numbers = torch.arange(first, first + count)
    z = [(numbers + start).double()[:, None] for start in (0, 100, 200)]
    texts = Views(numbers, numbers + 100, (numbers + 200,)) if ids else None
    return Views(z[0], z[1], (z[2],), ids=texts)


def test_one_rank_has_its_own_rows_block_after_block():
    found = Candidates.of(rows(0, 2))
    assert found.key[:, 0].tolist() == [100, 101, 200, 201]
    assert (found.own, found.rows) == (0, 2)
    assert found.query_ids.tolist() == [[0, 100], [1, 101]]
    assert found.key_ids.tolist() == [[100, 0], [101, 1], [200, 200], [201, 201]]
    z = Views(torch.ones(2, 1), torch.ones(2, 1))
    assert Candidates.of(z).key is z.positive
    assert Candidates.of(z).rules == {"own": 0, "query_ids": None, "key_ids": None}


def test_anchors_and_further_candidates():
    found = Candidates.of(rows(0, 2), anchors=True, further=torch.ones(1, 1), further_ids=torch.tensor([7]))
    assert found.key[:, 0].tolist() == [100, 101, 0, 1, 200, 201, 1]
    assert found.key_ids.tolist()[2:4] == [[100, 0], [101, 1]]
    assert found.key_ids.tolist()[-1] == [7, 7]
    assert Candidates.of(rows(0, 2), further=torch.ones(1, 1)).key_ids.tolist()[-1] == [NO_TEXT, NO_TEXT]


@pytest.mark.parametrize("ids", [True, False])
def test_own_hard_negatives_that_come_apart_are_no_keys_of_their_row(ids):
    found = Candidates.of(rows(0, 3, ids), own_apart=True)
    met = (found.query_ids[:, :, None, None] == found.key_ids[None, None]).flatten(3).any(3).any(1)
    assert torch.equal(met, torch.cat([torch.eye(3), torch.eye(3)], 1).bool())


def _on(rank, counts):
    found = Candidates.of(rows(sum(counts[:rank]), counts[rank]), own_apart=True)
    total = torch.tensor([6.0, 0.0, 4.0][rank])
    return found.key[:, 0].tolist(), found.own, found.counts, found.key_ids.tolist(), found.mean(total)


def test_ranks_hold_the_keys_of_all_and_their_own_place():
    counts = [3, 0, 1]
    key, _, _, key_ids, _ = _on(0, [4])
    results = on_ranks(3, _on, counts)
    assert all(found[0] == key and found[2] == counts and found[3] == key_ids for found in results)
    assert [found[1] for found in results] == [0, 3, 3]
    assert sum(found[4] for found in results) / 3 == pytest.approx(10 / 4)
    assert results[1][4] == 0


def test_the_mean_of_an_empty_batch_is_0():
    empty = Views(torch.zeros(0, 2), torch.zeros(0, 2))
    assert Candidates.of(empty).mean(torch.tensor(0.0)) == 0


def test_own_hard_negatives_that_repeat_the_row():
    ids = Views(torch.tensor([1, 2, 3, 4]), torch.tensor([5, 6, 7, 8]), (torch.tensor([1, 6, 1, -1]),))
    assert own_repeats(ids)[:, 0].tolist() == [True, True, False, True]
