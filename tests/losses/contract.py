"""What every objective of embeddings keeps to, checked from one line in its own test file: ``TestContract = contract(lambda: Mine())``."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from modules import batches, module_of, train
from ranks import on_ranks
from torch.utils.data import DataLoader

from inbatch.errors import UsageError
from inbatch.kernels import map_in_chunks
from inbatch.kernels.infonce import blocking
from inbatch.kernels.pairwise import chunked
from inbatch.losses.base import BatchFacts, Objective, check_all, parts
from inbatch.views import TokenBatch, Views

COUNTS = {2: [4, 3], 4: [2, 2, 2, 2]}
SCORES = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.2, 0.7, 0.5, 0.3])
FROZEN = {
    "class_path": "inbatch.models.encoder.Encoder",
    "init_args": {"backbone": {"class_path": "inbatch.models.backbones.pretrained.TinyRandom"}},
}
CHECKS = ("ranks", "chunks", "memory", "dense", "data", "yaml")


class Words:
    def get_vocab(self):
        return {"a": 0}

    def get_added_vocab(self):
        return {}


class Table(torch.nn.Module):
    """An encoder of texts that are one number each, with which it looks up a row."""

    def __init__(self, seed: int, width: int = 6) -> None:
        super().__init__()
        rows = torch.randn(64, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.rows = torch.nn.Parameter(rows)
        self.correction, self.dim, self.tokenizer = None, width, Words()

    def forward(self, tokens):
        return self.rows[tokens.input_ids[:, 0]]


def texts(rows: torch.Tensor, negatives: int = 1) -> Views[TokenBatch]:
    made = [TokenBatch((rows + 10 * role)[:, None], torch.ones(len(rows), 1).long()) for role in range(2 + negatives)]
    return Views(made[0], made[1], tuple(made[2:]))


def steps(rank: int, counts: list[int], make: Callable[[], Objective], scored: bool, chunk: int | None = None) -> Any:
    """One rank's share of two steps; the loss and gradient of the second."""
    live, objective = Table(1), make()
    for part in parts(objective):
        part.attach(live)
        part.chunk_tokens = chunk
    first = sum(counts[:rank])
    rows = torch.arange(first, first + counts[rank])
    tokens, loss = texts(rows), torch.zeros(())
    for _ in range(2):
        live.zero_grad()
        z = tokens.map(lambda view: map_in_chunks(live, view, budget=chunk))
        loss = objective(dataclasses.replace(z, score=SCORES[rows] if scored else None), tokens, live).loss
        loss.backward()
    return loss.detach(), live.rows.grad.clone()  # type: ignore[union-attr]


def contract(
    make: Callable[[], Objective],
    *,
    dense: Callable[[Views[torch.Tensor]], torch.Tensor] | None = None,
    scored: bool = False,
    settings: dict[str, Any] | None = None,
    checks: tuple[str, ...] = CHECKS,
) -> type:
    """Make the tests of an objective.

    Args:
        make: an instance, new at each call.
        dense: the loss of embeddings (b, d) a view, in float64, by whatever matrices it takes.
        scored: rows have scores.
        settings: what its class needs in a YAML file.
        checks: which of `CHECKS` make sense for it; noise, for one, differs on ranks.
    """

    def only(check: str) -> Any:
        return pytest.mark.skipif(check not in checks or (check == "dense" and dense is None), reason="not asked for")

    class Contract:
        @only("ranks")
        @pytest.mark.parametrize("ranks", COUNTS)
        def test_ranks_equal_one_process(self, ranks):
            truth, expected = steps(0, [sum(COUNTS[ranks])], make, scored)
            results = on_ranks(ranks, steps, COUNTS[ranks], make, scored)
            assert abs(sum(loss for loss, _ in results) / ranks - truth) < 1e-6 * truth.abs()
            averaged = sum(gradient for _, gradient in results) / ranks  # as DDP does
            assert expected.abs().max() > 0
            assert (averaged - expected).abs().max() <= 1e-6 * expected.abs().max()

        @only("chunks")
        def test_chunks_equal_the_whole(self):
            (whole, expected), (loss, gradient) = (steps(0, [7], make, scored, chunk) for chunk in (None, 2))
            torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
            assert (gradient - expected).abs().max() <= 1e-12 * expected.abs().max()

        @only("memory")
        @pytest.mark.parametrize("rows", [4_096, pytest.param(16_384, marks=pytest.mark.slow)])
        def test_no_matrix_of_the_batch(self, rows, monkeypatch):
            """Counted by the profiler: what is alive at once in a step, all parts and the backward pass included."""
            matrix = rows * rows * 4
            for module in (blocking, chunked):
                monkeypatch.setattr(module, "DEFAULT_WORKSPACE", matrix // 8)
            generator = torch.Generator().manual_seed(0)
            text = TokenBatch((torch.arange(rows) % 64)[:, None], torch.ones(rows, 1).long())
            made = [torch.randn(rows, 6, generator=generator).requires_grad_() for _ in range(3)]
            score = torch.rand(rows, generator=generator) if scored else None
            objective, live = make().float(), Table(1).float()
            for part in parts(objective):
                part.attach(live)
            activities = [torch.profiler.ProfilerActivity.CPU]
            with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
                z = Views(made[0], made[1], (made[2],), score)
                objective(z, Views(text, text, (text,)), live).loss.backward()
            assert made[0].grad is not None
            events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())  # type: ignore[union-attr]
            alive = itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]")
            assert max(alive) < matrix / 2

        @only("dense")
        def test_value_and_gradient_equal_the_dense_formula(self):
            made = [t.requires_grad_() for t in torch.randn(3, 7, 6, dtype=torch.float64).unbind()]
            z = Views(made[0], made[1], (made[2],), score=SCORES[:7] if scored else None)
            mine, theirs = make()(z, texts(torch.arange(7)), Table(1)).loss, dense(z)  # type: ignore[misc]
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=0)
            for found, wanted in zip(*(torch.autograd.grad(x, made, materialize_grads=True) for x in (mine, theirs))):
                torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)

        @only("data")
        @pytest.mark.parametrize("negatives", [0, 2])
        @pytest.mark.parametrize("with_scores", [False, True])
        def test_data_are_refused_before_the_first_step_or_run(self, negatives, with_scores):
            objective, live = make(), Table(1)
            for part in parts(objective):
                part.attach(live)
            try:
                check_all(objective, BatchFacts(rows=7, negatives=negatives, scored=with_scores))
            except UsageError as error:
                refusal = str(error)
            else:
                refusal = ""
            if refusal:
                assert any(word in refusal for word in ("Set ", "set ", "Give "))
                return
            tokens = texts(torch.arange(7), negatives)
            z = dataclasses.replace(tokens.map(live), score=SCORES[:7] if with_scores else None)
            assert objective(z, tokens, live).loss.isfinite()

        @only("yaml")
        def test_its_name_parses_and_two_steps_run(self, tmp_path):
            parser = ArgumentParser(exit_on_error=False)
            parser.add_subclass_arguments(Objective, "objective")
            given = {"class_path": type(make()).__name__, "init_args": settings or {}}
            objective = parser.instantiate_classes(parser.parse_object({"objective": given})).objective
            module = module_of(objective=objective)
            made = batches(module.encoder, 2, negatives=1)
            loader = DataLoader([dataclasses.replace(z, score=SCORES[:6] if scored else None) for z in made], None)  # type: ignore[arg-type]
            before = [p.clone() for p in module.encoder.parameters()]
            train(module, tmp_path, max_steps=2, data=loader)
            assert any((p - q).abs().max() > 0 for p, q in zip(module.encoder.parameters(), before))

    return Contract
