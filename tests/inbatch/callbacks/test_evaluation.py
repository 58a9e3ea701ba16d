from __future__ import annotations

import math
import signal
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from inbatch.callbacks.evaluation import Evaluation, in_a_line, run_evaluators
from inbatch.callbacks.signals import Stopped
from inbatch.errors import UsageError


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, numbers: dict[str, float], step: int) -> None:
        self.lines.append((step, numbers))


def scores(*values: float) -> Any:
    given = iter(values)
    return lambda encoder: {"score": next(given)}


def run(evaluation: Evaluation, steps: int, start: int = 0, max_steps: int = -1) -> Log:
    """Take steps, as a trainer would call."""
    log = Log()
    trainer: Any = SimpleNamespace(global_step=start, max_steps=max_steps, loggers=[log], is_global_zero=True)
    module: Any = SimpleNamespace(at_dev=nullcontext)
    for step in range(start + 1, steps + 1):
        evaluation.on_train_batch_start(trainer, module, None, 0)
        trainer.global_step = step
        evaluation.on_train_batch_end(trainer, module, None, None, 0)
        evaluation.on_train_batch_end(trainer, module, None, None, 0)  # a batch that only accumulates
    evaluation.on_train_end(trainer, module)
    return log


def test_evaluators_run_when_they_are_due():
    log = run(Evaluation({"a": scores(1, 2, 3, 4)}, every=3, first=True), steps=8, max_steps=8)
    assert [step for step, _ in log.lines] == [0, 3, 6, 8]
    assert log.lines[0][1] == {"val/a/score": 1.0}
    assert run(Evaluation({"a": scores()}), steps=4).lines == []
    assert [step for step, _ in run(Evaluation({"a": scores(1)}, first=True), steps=4).lines] == [0]


def test_an_evaluator_that_cannot_take_the_encoder_is_refused_before_training():
    class Picky:
        def check(self, encoder: Any) -> None:
            raise UsageError(f"no {encoder}")

        def __call__(self, encoder: Any) -> dict[str, float]:
            raise AssertionError("not asked yet")

    evaluation = Evaluation({"plain": scores(), "mine": Picky()}, every=3)
    with pytest.raises(UsageError, match="evaluators.mine cannot take this encoder: no encoder"):
        evaluation.on_fit_start(Any, SimpleNamespace(at_dev=lambda: nullcontext("encoder")))  # type: ignore[arg-type]


def test_each_evaluation_is_a_line_on_the_screen(capsys: pytest.CaptureFixture[str]):
    run(Evaluation({"a": scores(1, 0.25)}, every=2, first=True), steps=2)
    assert capsys.readouterr().out == "step 0  val/a/score 1.0000\nstep 2  val/a/score 0.2500\n"


def test_a_line_names_an_evaluator_once_and_leaves_out_what_it_divides_further():
    numbers = {"val/r/mrr": 0.5, "val/r/recall": 0.25, "val/r/part/mrr": 0.1, "val/r/part/recall": 0.2, "val/s/avg": 70}
    assert in_a_line(numbers) == "val/r/mrr 0.5000  recall 0.2500  val/s/avg 70.0000"
    assert in_a_line(numbers, "val/r/part/mrr") == "val/r/mrr 0.5000  recall 0.2500  part/mrr 0.1000  val/s/avg 70.0000"


def test_training_that_ends_by_epochs_is_evaluated_at_its_end():
    assert [step for step, _ in run(Evaluation({"a": scores(1, 2)}, every=3), steps=4).lines] == [3, 4]


@pytest.mark.parametrize(("steps", "max_steps", "due"), [(8, 8, [3, 6]), (8, -1, [3, 6]), (6, 6, [3, 6]), (3, 3, [3])])
def test_the_last_step_is_left_out_where_it_is_not_due(steps: int, max_steps: int, due: list[int]):
    evaluation = Evaluation({"a": scores(1, 2, 9)}, every=3, last=False, monitor="val/a/score")
    assert [step for step, _ in run(evaluation, steps, max_steps=max_steps).lines] == due
    assert evaluation.best_step == due[-1]


@pytest.mark.parametrize("first", [False, True])
def test_a_run_too_short_for_an_evaluation_says_that_its_last_step_is_exported(first: bool):
    evaluation = Evaluation({"a": scores(1)}, every=5, first=first, last=False, monitor="val/a/score")
    with pytest.warns(UserWarning, match="val/a/score was never measured, as 4 steps are fewer than evaluate_every=5"):
        log = run(evaluation, steps=4, max_steps=4)
    assert [step for step, _ in log.lines] == [0] * first
    assert evaluation.best_step == -1


@pytest.mark.parametrize(("mode", "values", "best"), [("max", (1, 5, 3), (2, 5)), ("min", (4, 5, 3), (3, 3))])
def test_the_best_step_is_that_of_the_monitored_number(mode: Any, values: tuple[float, ...], best: tuple[int, float]):
    evaluation = Evaluation({"a": scores(*values)}, every=1, monitor="val/a/score", mode=mode)
    run(evaluation, steps=3)
    assert (evaluation.best_step, evaluation.best_score) == best


def test_neither_the_untrained_model_nor_a_nan_is_best():
    evaluation = Evaluation({"a": scores(9, math.nan, 2, math.nan)}, every=1, first=True, monitor="val/a/score")
    run(evaluation, steps=3)
    assert (evaluation.best_step, evaluation.best_score) == (2, 2)


def test_a_resumed_run_knows_the_best_and_what_was_done():
    first = Evaluation({"a": scores(5, 4)}, every=2, first=True, monitor="val/a/score")
    run(first, steps=2)
    resumed = Evaluation({"a": scores(3)}, every=2, first=True, monitor="val/a/score")
    resumed.load_state_dict(first.state_dict())
    log = run(resumed, steps=4, start=2)
    assert [step for step, _ in log.lines] == [4]
    assert (resumed.best_step, resumed.best_score) == (2, 4)


def cut_short(encoder: Any) -> dict[str, float]:
    raise Stopped(signal.SIGTERM)


@pytest.mark.parametrize(("step", "max_steps", "due"), [(4, -1, True), (5, 5, True), (5, -1, False), (0, -1, False)])
@pytest.mark.parametrize("hook", ["on_train_start", "on_fit_end"])
def test_an_evaluation_that_was_cut_short_is_made_up_for(step: int, max_steps: int, due: bool, hook: str):
    log = Log()
    strategy = SimpleNamespace(root_device="cpu")
    trainer: Any = SimpleNamespace(
        global_step=step, max_steps=max_steps, loggers=[log], is_global_zero=True, strategy=strategy
    )
    module: Any = SimpleNamespace(at_dev=nullcontext, to=lambda device: None)
    broken, resumed = Evaluation({"a": cut_short}, every=2), Evaluation({"a": scores(7)}, every=2)
    if due:
        with pytest.raises(Stopped):
            broken.on_train_batch_end(trainer, module, None, None, 0)
    resumed.load_state_dict(broken.state_dict())
    for _ in range(2):
        getattr(resumed, hook)(trainer, module)
    assert log.lines == ([(step, {"val/a/score": 7.0})] if due else [])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"every": 0}, "expected evaluate_every >= 1 or null; got 0"),
        (
            {"evaluators": {}, "every": 1},
            "expected evaluators, as evaluate_every is set; got none. Set evaluators, or set evaluate_every to null.",
        ),
        ({"evaluators": {}, "first": True}, "set evaluate_first to false"),
        ({"every": 1, "monitor": "val/b/score"}, "expected monitor to be a tag of an evaluator"),
        ({"every": 1, "monitor": "score"}, "expected monitor to be a tag of an evaluator"),
        ({"monitor": "val/a/score"}, "and evaluate_every=None"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        Evaluation(**{"evaluators": {"a": scores()}, **options})


def test_an_unknown_tag_is_told_with_those_there_are():
    with pytest.raises(UsageError, match="expected monitor to be one of val/a/score; got 'val/a/scroe'.*val/a/score"):
        run(Evaluation({"a": scores(1)}, every=1, monitor="val/a/scroe"), steps=1)


def test_run_evaluators_joins_the_names():
    assert run_evaluators({"a": scores(1), "b": scores(2)}, None, "test") == {"test/a/score": 1, "test/b/score": 2}  # type: ignore[arg-type]
