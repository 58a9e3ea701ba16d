"""InfoNCE on several ranks is InfoNCE on one: loss, gradients by rows and by what all ranks share."""

import pytest
import torch
from ranks import on_ranks

from inbatch.errors import UsageError
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.views import Views

OPTIONS = {
    "plain": {},
    "hard negatives": {"hard_negative_weight": 0.5},
    "margin and ceiling": {"margin": 0.1, "false_negative_margin": 0.3},
    "learnt": {"learn_temperature": True},
    "symmetric": {"symmetric": True, "margin": 0.1, "learn_temperature": True},
}
COUNTS = {2: [4, 3], 4: [2, 2, 2, 2]}


def _batch(rows):
    rng = torch.Generator().manual_seed(3)
    texts = [torch.randn(rows, 6, generator=rng, dtype=torch.float64) for _ in range(3)]
    ids = [torch.randint(0, 2 * rows, (rows,), generator=rng) for _ in range(3)]
    return Views(texts[0], texts[1], (texts[2],), ids=Views(ids[0], ids[1], (ids[2],)))


def _part(views, rows):
    ids = views.ids.map(lambda t: t[rows])
    return Views(views.anchor[rows], views.positive[rows], (views.negatives[0][rows],), ids=ids)


def _step(rank, counts, options, with_ids):
    """One rank's share: rows times a matrix that all ranks share, as an encoder is shared."""
    torch.manual_seed(0)
    shared = torch.nn.Linear(6, 5, bias=False).double()
    objective = InfoNCE(0.1, **options)
    start = sum(counts[:rank])
    views = _part(_batch(sum(counts)), slice(start, start + counts[rank]))
    if not with_ids:
        views = Views(views.anchor, views.positive, views.negatives)
    loss = objective(views.map(shared), None, None).loss
    loss.backward()
    grads = [p.grad.clone() for p in [*shared.parameters(), *objective.parameters()]]
    return loss.detach(), grads


@pytest.mark.parametrize("ranks", COUNTS)
@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("name", OPTIONS)
def test_equals_one_process(name, with_ids, ranks):
    counts = COUNTS[ranks]
    truth, expected = _step(0, [sum(counts)], OPTIONS[name], with_ids)
    results = on_ranks(ranks, _step, counts, OPTIONS[name], with_ids)
    assert abs(sum(r[0] for r in results) / ranks - truth) < 1e-12 * truth
    for index, gradient in enumerate(expected):
        averaged = sum(r[1][index] for r in results) / ranks  # as DDP does
        assert (averaged - gradient).abs().max() <= 1e-6 * gradient.abs().max()


def _refused(rank):
    try:
        InfoNCE(symmetric=True, false_negative_margin=0.1)(_batch(2), None, None)
    except UsageError as error:
        return str(error)


def test_a_ceiling_on_columns_of_other_ranks_is_refused():
    assert all("works on one rank only" in message for message in on_ranks(2, _refused))
