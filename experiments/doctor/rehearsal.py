"""Rehearse the steps of a run, made smaller: what they take at their height is measured, not guessed."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import multiprocessing
import os
import resource
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch.utils.data import DataLoader, Dataset

from inbatch.callbacks.phases import FORWARD, UPDATE, Phases
from inbatch.errors import InbatchError
from inbatch.kernels.caching import chunk_sizes
from inbatch.losses.base import parts
from inbatch.run.lightning_words import silence_lightning
from inbatch.views import TokenBatch, Views

if TYPE_CHECKING:
    from inbatch.run.options import FitCLI

# Rows that are tokenized to learn how long the texts are; rehearsals draw theirs from them.
SAMPLE = 1024
# The optimizer's state comes with the first step and lies in the way of the second's activations.
STEPS = 2


@dataclass(frozen=True)
class Scene:
    """One size at which steps are rehearsed.

    Attributes:
        rows: of the batch.
        chunk_tokens: padded tokens of a chunk; None runs the batch at once.

    Example:
        >>> scene = Scene(rows=2, chunk_tokens=8)
        >>> mask = torch.ones(3, 4, dtype=torch.int64)  # three texts of four tokens
        >>> batch = choose(Views(TokenBatch(mask, mask), TokenBatch(mask, mask)), scene.rows, seed=0)
        >>> len(batch.anchor), largest_chunk(batch, scene.chunk_tokens)  # of 16 tokens in all
        (2, 8)
    """

    rows: int
    chunk_tokens: int | None


@dataclass(frozen=True)
class Held:
    """What all tensors that the steps of a scene made held at once, in bytes.

    Attributes:
        tokens: padded tokens of the largest chunk.
        texts: of the batch.
        passes: held before the optimizer's step.
        update: held in it.

    Example:
        >>> small, large = Held(tokens=100, texts=10, passes=1000, update=5), Held(tokens=300, texts=30, passes=3000, update=5)
        >>> (large.passes - small.passes) / (large.tokens - small.tokens)  # bytes a token
        10.0
    """

    tokens: int
    texts: int
    passes: int
    update: int


def sample(data: Any, encoder: Any) -> Views[TokenBatch]:
    r"""Tokenize some rows, evenly out of the table with the most hard negatives: single-source batches may differ in them.

    Example:
        >>> from inbatch.run.options import FitCLI
        >>> _ = Path("pairs.csv").write_text("anchor,positive\nfog,a cloud\nwind,moving air\n")
        >>> tiny = ["--model.encoder=Encoder", "--model.encoder.backbone=TinyRandom", "--model.objective=InfoNCE"]
        >>> tiny += ["--model.optimizer=torch.optim.AdamW", "--trainer.precision=32-true", "--trainer.max_steps=1"]
        >>> cli = FitCLI([*tiny, "--data.sources=pairs.csv", "--data.batch_size=2"])
        >>> cli.build()
        >>> [view.lengths.tolist() for view in sample(cli.datamodule, cli.model.encoder)]  # a token a byte, and two around
        [[5, 6], [9, 12]]
    """
    from inbatch.data.batches.sampler import Draw

    dataset, collate = data.dataset(), data.collate(encoder)
    found, first = [], 0
    for table in data.tables:
        rows = range(first, first + len(table), -(-len(table) // SAMPLE))
        first += len(table)
        found.append(collate(dataset[Draw(0, list(rows))]))
    return max(found, key=len)


def held(cli: FitCLI, texts: Views[TokenBatch], scene: Scene) -> Held:
    r"""Take two steps of a built run at another size, in this process, and count its tensors.

    The model is trained by it, and its schedule is gone.

    Args:
        cli: built.
        texts: of `sample`.
        scene: the size.

    Example:
        >>> from inbatch.run.options import FitCLI
        >>> silence()
        >>> _ = Path("pairs.csv").write_text("anchor,positive\nfog,a cloud\nwind,moving air\n")
        >>> tiny = ["--model.encoder=Encoder", "--model.encoder.backbone=TinyRandom", "--model.encoder.backbone.num_layers=1"]
        >>> tiny += ["--model.objective=InfoNCE", "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"]
        >>> tiny += ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.max_steps=1"]
        >>> cli = FitCLI([*tiny, "--data.sources=pairs.csv", "--data.batch_size=2"])
        >>> cli.build()
        >>> found = held(cli, sample(cli.datamodule, cli.model.encoder), Scene(rows=2, chunk_tokens=None))
        >>> found.texts, found.tokens  # four of at most twelve tokens
        (4, 48)
    """
    batches = [choose(texts, scene.rows, seed) for seed in range(2)]
    phases = Phases()
    gc.collect()  # what an earlier trainer left must not be freed under the profile's eyes
    cli.model.zero_grad(set_to_none=True)
    activity = torch.profiler.ProfilerActivity.CPU
    with warnings.catch_warnings(), torch.profiler.profile(activities=[activity], profile_memory=True) as profile:
        warnings.simplefilter("ignore")
        steps(cli, batches, scene.chunk_tokens, phases)
    passes, update = phases.peaks if phases.device.type == "cuda" else _peaks(profile)
    cli.model.zero_grad(set_to_none=True)
    tokens = max(largest_chunk(batch, scene.chunk_tokens) for batch in batches)
    return Held(tokens, scene.rows * len(texts), passes, update)


def heap(arguments: Sequence[str], scene: Scene) -> tuple[int, int, int]:
    """Take some steps of a run at another size on the CPU, in a process that nothing else has grown.

    A heap has holes, and what computes beside torch has buffers of its own; so a process takes more than its tensors.

    Args:
        arguments: of ``inbatch fit``, configurations located.
        scene: the size.

    Returns:
        Bytes of the process before the first step, its peak up to there, and its peak in the steps.

    Raises:
        InbatchError: if the process fails, or is killed, as the system does where memory runs out.

    Example:
        >>> from multiprocessing import dummy
        >>> from unittest.mock import patch
        >>> with patch("multiprocessing.get_context", return_value=dummy):  # a thread, which starts sooner than a process
        ...     heap(["--data.batch_sise=8"], Scene(rows=4, chunk_tokens=None))
        Traceback (most recent call last):
        inbatch.errors.InbatchError: the rehearsal of 4 rows failed: UsageError: there is no option --data.batch_sise. Did you mean
        data.batch_size?
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, list(arguments), scene))
    process.start()
    there.close()
    try:
        answer = here.recv()
    except EOFError:
        answer = None
    process.join()
    if isinstance(answer, tuple):
        return answer
    why = answer or f"exit code {process.exitcode}, of which -9 mostly means that memory ran out"
    raise InbatchError(f"the rehearsal of {scene.rows} rows failed: {why}")


def steps(cli: FitCLI, batches: Sequence[Views[TokenBatch]], chunk_tokens: int | None, *callbacks: Any) -> None:
    r"""Take a step with each batch: everything is the run's own but the sizes, the schedule, and the ranks, of which there is one.

    Example:
        >>> from inbatch.run.options import FitCLI
        >>> silence()
        >>> _ = Path("pairs.csv").write_text("anchor,positive\nfog,a cloud\nwind,moving air\n")
        >>> tiny = ["--model.encoder=Encoder", "--model.encoder.backbone=TinyRandom", "--model.objective=InfoNCE"]
        >>> tiny += ["--model.optimizer=torch.optim.AdamW", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
        >>> cli = FitCLI([*tiny, "--trainer.max_steps=1", "--data.sources=pairs.csv", "--data.batch_size=2"])
        >>> cli.build()
        >>> before = cli.model.encoder.encode(["fog"])
        >>> steps(cli, [sample(cli.datamodule, cli.model.encoder)], None)
        >>> torch.equal(cli.model.encoder.encode(["fog"]), before)  # the model was trained
        False
    """
    module: Any = cli.model
    module.schedule, module.warmup_steps, module.chunk_tokens = "constant", 0, chunk_tokens
    for part in parts(module.objective):
        part.chunk_tokens = chunk_tokens
    # Accumulated gradients are there while the next batch runs; with two batches a step that is so.
    accumulated = min(2, cli.config_init.trainer.accumulate_grad_batches)
    trainer: Any = cli.instantiate_trainer(
        accumulate_grad_batches=accumulated,
        callbacks=[*callbacks],
        devices=1,
        enable_progress_bar=False,
        limit_train_batches=1.0,
        logger=False,
        max_epochs=-1,
        max_steps=len(batches),
        max_time=None,
        num_nodes=1,
        strategy="auto",
    )
    rows: Dataset[Any] = [batch for batch in batches for _ in range(accumulated)]  # type: ignore[assignment]
    trainer.fit(module, DataLoader(rows, batch_size=None))
    module.trainer = None  # with it goes the optimizer's state


def choose(texts: Views[TokenBatch], rows: int, seed: int) -> Views[TokenBatch]:
    """Draw a batch, in which the longest row always is; rows are repeated where there are too few.

    Example:
        >>> mask = torch.tensor([[1, 0, 0], [1, 1, 1], [1, 1, 0]])  # texts of 1, 3 and 2 tokens
        >>> texts = Views(TokenBatch(mask, mask), TokenBatch(mask, mask))
        >>> batch = choose(texts, rows=2, seed=0)
        >>> len(batch.anchor), batch.anchor.lengths[0].item()
        (2, 3)
        >>> len(choose(texts, rows=5, seed=0).anchor)
        5
    """
    longest = int(torch.stack([view.lengths for view in texts]).sum(0).argmax())
    count = len(texts.anchor)
    draws = torch.Generator().manual_seed(seed)
    picked = torch.cat([torch.randperm(count, generator=draws) for _ in range(-(-rows // count))])[:rows]
    picked[0] = longest
    chosen = texts.map(lambda view: view.select(picked))
    ids = None if texts.ids is None else texts.ids.map(lambda view: view[picked])
    score, instructions = (None if given is None else given[picked] for given in (texts.score, texts.instructions))
    return dataclasses.replace(chosen, ids=ids, score=score, instructions=instructions)


def largest_chunk(views: Views[TokenBatch], budget: int | None) -> int:
    """Return the padded tokens of the largest chunk that a batch is cut into.

    Example:
        >>> mask = torch.tensor([[1, 0, 0], [1, 1, 1], [1, 1, 0]])  # texts of 1, 3 and 2 tokens
        >>> texts = Views(TokenBatch(mask, mask), TokenBatch(mask, mask))
        >>> largest_chunk(texts, None), largest_chunk(texts, 4)  # all six as long as the longest; two of two tokens
        (18, 4)
    """
    lengths = sorted(torch.cat([view.lengths for view in views]).tolist(), reverse=True)
    largest, start = 0, 0
    for size in chunk_sizes(lengths, budget):
        largest = max(largest, size * lengths[start])
        start += size
    return largest


def silence() -> None:
    """Keep Lightning from saying what the findings say, and the profiler from saying that it runs.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict("os.environ", clear=True):
        ...     silence()
        ...     os.environ["KINETO_LOG_LEVEL"]
        '99'
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    silence_lightning()


def _peaks(profile: Any) -> list[int]:
    """Add up what a profile saw allocated and freed; the peaks before the optimizer's step and in it."""
    total, top, phase = 0, [0, 0], 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            total += event.nbytes()
            top[phase] = max(top[phase], total)
        elif event.name() in (FORWARD, UPDATE):
            phase = int(event.name() == UPDATE)
            top[phase] = max(top[phase], total)
    return top


def _answer(pipe: Any, arguments: list[str], scene: Scene) -> None:
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            answer: Any = _grow(arguments, scene)
        except Exception as error:
            answer = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    pipe.send(answer)


def _grow(arguments: list[str], scene: Scene) -> tuple[int, int, int]:
    import torch.utils.tensorboard  # noqa: F401  (a part of the program that trains)

    from inbatch.allocator import keep_freed_memory
    from inbatch.run.options import FitCLI

    silence()
    cli = FitCLI(arguments)
    cli.build()
    texts = sample(cli.datamodule, cli.model.encoder)
    batches = [choose(texts, scene.rows, seed) for seed in range(STEPS)]
    keep_freed_memory()
    before, start = psutil.Process().memory_info().rss, _peak()
    with contextlib.suppress(OSError):  # begins the peak anew, where the kernel lets it
        Path("/proc/self/clear_refs").write_text("5")
    steps(cli, batches, scene.chunk_tokens)
    return before, start, _peak()


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent was when it started this process
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
