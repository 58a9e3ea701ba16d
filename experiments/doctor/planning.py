"""Plan a run without training it: what `inbatch fit` would parse and build, its batch and negatives, and the memory of a step."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import nn

from inbatch.callbacks.first_screen import negatives
from inbatch.errors import UsageError
from inbatch.experiments.doctor.findings import Finding
from inbatch.experiments.doctor.memory import Memory, Rehearsed, Shape, at_once, fit_line, fitting_chunk, memory_of
from inbatch.experiments.doctor.rehearsal import STEPS, Scene, heap, held, sample, silence
from inbatch.losses.base import describe, parts
from inbatch.views import TokenBatch, Views

if TYPE_CHECKING:
    from inbatch.run.options import FitCLI

GIB = 2**30
WEIGHTS = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
# Floating-point operations that the rehearsal of the heap may take.
WORK = 4e12
# Chunks of a rehearsal that is smaller than the run, at most. One run of 26 chunks was planned at 0.78 of its measured peak with 8 of
# them, and at 0.90 with all.
CHUNKS = 32
# A rehearsal may take this share of the memory that is here, if the heap is no larger than so many times its tensors.
SHARE, LARGEST_HEAP = 0.5, 10.0


def plan_run(arguments: Sequence[str], given_gib: float | None = None) -> tuple[dict[str, Any], list[Finding]]:
    """Parse the arguments of ``inbatch fit``, build what they say, rehearse some small steps, and add up what a step will need.

    Args:
        arguments: of the command line.
        given_gib: memory that a rank will have, in GiB; None for what this machine has.

    Returns:
        The numbers, for a program; and the findings, for people.

    Raises:
        UsageError: if the arguments or the data are wrong, as ``inbatch fit`` would say it.
        MissingError: if a file, data set or model is not there.
        InbatchError: if the rehearsal fails.

    Example:
        >>> plan_run(["--config", "own/pairs.yaml"], given_gib=0)
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected --memory as GiB, a positive number; got 0
    """
    from inbatch.run.config import locate_configs
    from inbatch.run.options import FitCLI
    from inbatch.run.remedies import said_as_typed

    if given_gib is not None and not (math.isfinite(given_gib) and given_gib > 0):
        raise UsageError(f"expected --memory as GiB, a positive number; got {given_gib}")
    silence()
    located, _ = locate_configs(arguments)
    cli = FitCLI(located)
    with said_as_typed(cli.config, arguments):
        return _plan(cli, located, given_gib)


def _plan(cli: FitCLI, located: Sequence[str], given_gib: float | None) -> tuple[dict[str, Any], list[Finding]]:
    cli.build()
    trainer: Any = cli.instantiate_trainer(logger=False, enable_progress_bar=False)
    device: torch.device = trainer.strategy.root_device
    module: Any = cli.model.train()
    if trainer.precision in WEIGHTS:
        module.to(WEIGHTS[trainer.precision])
    assert cli.datamodule.order.steps_per_epoch > 0
    texts = sample(cli.datamodule, module.encoder)
    module.check(cli.datamodule, trainer.world_size, trainer.precision)
    shape = shape_of(cli, trainer, texts)
    found = [*_run_findings(cli, trainer, shape)]
    here = available_bytes(device, shape.local_ranks)
    available = here if given_gib is None else round(given_gib * GIB)
    chunk = module.chunk_tokens
    memory = memory_of(module, shape, device, chunk, None)
    rehearsed = None
    if memory.total < here:
        rehearsed = rehearse(cli, located, texts, shape, device, here)
        memory = memory_of(module, shape, device, chunk, rehearsed)
    facts = {"shape": vars(shape), "bytes": {**vars(memory), "total": memory.total, "available": available}}
    facts["device"], facts["precision"] = str(device), trainer.precision
    if rehearsed is not None:
        facts["rehearsal"] = dataclasses.asdict(rehearsed)
    if given_gib is not None:
        text = f"{given_gib:g} GiB a rank, as given; the needs were measured on this machine's {device.type}"
        found.append(Finding("memory", "note", text))
    return facts, [*found, *memory_findings(module, shape, memory, rehearsed, chunk, available)]


def shape_of(cli: FitCLI, trainer: Any, texts: Views[TokenBatch]) -> Shape:
    """Read the sizes of a step off the built run, and the texts' true length off a sample.

    Example:
        >>> from types import SimpleNamespace
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> from inbatch.text.tokens import tokenize
        >>> encoder = Encoder(TinyRandom("bert"))  # a token a byte, and two around
        >>> data = SimpleNamespace(max_length={"query": 16, "document": 32}, batch_size=8)
        >>> cli = SimpleNamespace(model=SimpleNamespace(encoder=encoder), datamodule=data)
        >>> texts = Views(tokenize(encoder.tokenizer, ["fog"]), tokenize(encoder.tokenizer, ["a cloud"]))
        >>> shape = shape_of(cli, SimpleNamespace(world_size=2, num_devices=2), texts)
        >>> shape.rows, shape.tokens, shape.mean_length  # 4 * (16 + 32), and the mean of 5 and 9
        (4, 192, 7.0)
    """
    from inbatch.models.training.data_checks import longest_prompt
    from inbatch.text.templates import filled_length

    data: Any = cli.datamodule
    encoder: Any = cli.model.encoder
    query, document = (
        filled_length(encoder.tokenizer, longest_prompt(encoder, data, side), data.max_length[side])
        for side in ("query", "document")
    )
    sides = [query, *[document] * (len(texts) - 1)]
    rows = math.ceil(data.batch_size / trainer.world_size)
    return Shape(
        rows=rows,
        batch=data.batch_size,
        views=len(texts),
        dim=encoder.dim,
        longest=max(sides),
        tokens=rows * sum(sides),
        mean_length=sum(float(view.lengths.float().mean()) for view in texts) / len(texts),
        ranks=trainer.world_size,
        local_ranks=trainer.num_devices,
    )


def rehearse(
    cli: FitCLI, arguments: Sequence[str], texts: Views[TokenBatch], shape: Shape, device: torch.device, room: int
) -> Rehearsed:
    """Measure the tensors of small steps, from which larger ones follow; and on a CPU the process beside them.

    Args:
        cli: built; its model is trained by it.
        arguments: it was built from.
        texts: a sample.
        shape: sizes of a step.
        device: of the run.
        room: bytes that are here.

    Example:
        >>> from types import SimpleNamespace
        >>> from unittest.mock import patch
        >>> from inbatch.experiments.doctor.rehearsal import Held
        >>> module = nn.Linear(4, 2)
        >>> module.chunk_tokens = None
        >>> view = TokenBatch(torch.ones(3, 5), torch.ones(3, 5))
        >>> shape = Shape(rows=64, batch=64, views=2, dim=2, longest=5, tokens=640, mean_length=5.0, ranks=1, local_ranks=1)
        >>> with patch(  # in place of steps: 7 bytes a token beside 1,000
        ...     "inbatch.experiments.doctor.planning.held",
        ...     lambda cli, texts, scene: Held(tokens=10 * scene.rows, texts=2 * scene.rows, passes=1000 + 70 * scene.rows, update=900),
        ... ):
        ...     rehearse(SimpleNamespace(model=module), [], Views(view, view), shape, torch.device("cuda"), room=GIB).line
        Line(fixed=1000.0, token=7.0, text=0.0, update=900)
    """
    module: Any = cli.model
    own = at_once(shape, module.chunk_tokens)
    longest = max(int(view.lengths.max()) for view in texts)
    whole = own >= shape.tokens

    def scene(tokens: float, chunks: float) -> Scene:
        width = longest if whole else shape.mean_length
        rows = min(shape.rows, max(2, round(chunks * tokens / (shape.views * width))))
        return Scene(rows, None if whole else max(longest, int(tokens) // longest * longest))

    flops = 8 * max(1, _multiplied(module))  # a token's: forward, again, and twice that backward
    affordable = WORK / (flops * STEPS * own)
    chunks = 1.0 if whole else min(max(CHUNKS, affordable), shape.rows * shape.views * shape.mean_length / own)
    large = longest * min(24, max(6, WORK / 4 / (flops * longest)))
    scenes = [scene(large / 3, 2), scene(large, 2), *([] if whole else [scene(large / 3, 6)])]
    count = len(scenes) + (device.type == "cpu")

    def announced(one: Scene, number: int) -> Scene:
        chunk = "at once" if one.chunk_tokens is None else f"in chunks of {one.chunk_tokens:,} tokens"
        print(f"rehearsal {number} of {count}: {one.rows:,} rows {chunk}", file=sys.stderr, flush=True)
        return one

    line = fit_line([held(cli, texts, announced(one, number)) for number, one in enumerate(scenes, 1)])
    if device.type != "cpu":
        return Rehearsed(line, 1.0, 0, 0, int(large))
    fitting = (SHARE * room / LARGEST_HEAP - line.fixed) / max(1.0, line.token)
    last = scene(max(2.0 * longest, min(own, WORK / (flops * STEPS * chunks), fitting)), chunks)
    tokens = last.chunk_tokens or last.rows * shape.views * longest
    program, start, peak = heap(arguments, announced(last, count))
    factor = (peak - program) / line.at(tokens, last.rows * shape.views)
    return Rehearsed(line, factor, program, start, tokens)


def available_bytes(device: torch.device, local_ranks: int) -> int:
    """Bytes that one rank may use; the ranks of a machine share its processor's memory.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("psutil.virtual_memory") as machine, patch("psutil.Process") as process:
        ...     machine.return_value.available, process.return_value.memory_info.return_value.rss = 7 * GIB, 1 * GIB
        ...     available_bytes(torch.device("cpu"), local_ranks=2) // GIB  # what is free and what this process has, halved
        4
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return (psutil.virtual_memory().available + psutil.Process().memory_info().rss) // local_ranks


def _multiplied(module: nn.Module) -> int:
    """Count the parameters that every token is multiplied with: all but tables."""
    tables = sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Embedding))
    return sum(p.numel() for p in module.parameters()) - tables


def _run_findings(cli: FitCLI, trainer: Any, shape: Shape) -> Iterator[Finding]:
    module: Any = cli.model
    data: Any = cli.datamodule
    backbone = module.encoder.backbone
    text = f"{backbone.name}, {module.encoder.pooling} pooling, {shape.dim} dimensions, attention {backbone.attention}"
    yield Finding("model", "ok", f"{text} ({backbone.attention_reason})")
    total = sum(p.numel() for p in module.parameters())
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    yield Finding("parameters", "ok", f"{trainable:,} trainable of {total:,}, objective {describe(module.objective)}")
    for table in data.tables:
        yield Finding("data", "ok", f"{table.name}: {len(table):,} rows; {table.roles}")
    where = f"{trainer.strategy.root_device.type} x {shape.ranks}"
    yield Finding(
        "device",
        "ok",
        f"{where}, precision {trainer.precision} ({cli.precision.reason}), strategy {type(trainer.strategy).__name__}",
    )
    rows = f"{shape.batch:,} rows" + (f", {shape.rows:,} a rank" if shape.ranks > 1 else "")
    steps = f"{data.order.steps_per_epoch:,} steps an epoch"
    text = (
        f"{rows} of {shape.views} texts, {shape.mean_length:.0f} tokens on average and {shape.longest} at most; {steps}"
    )
    yield Finding("batch", "ok", text)
    yield Finding("negatives", "ok", negatives(module.objective, shape.batch, shape.views - 1))
    if trainer.accumulate_grad_batches > 1:
        text = f"{trainer.accumulate_grad_batches} batches a step; that adds no negatives"
        yield Finding("accumulation", "note", text, "raise data.batch_size and keep model.chunk_tokens")


def memory_findings(
    module: Any, shape: Shape, memory: Memory, rehearsed: Rehearsed | None, chunk: int | None, available: int
) -> Iterator[Finding]:
    """Say what needs how much, whether it fits, and which chunk would.

    Example:
        >>> from types import SimpleNamespace
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> module = SimpleNamespace(objective=InfoNCE(), encoder=SimpleNamespace(correction=None))
        >>> shape = Shape(rows=16, batch=16, views=2, dim=384, longest=64, tokens=2048, mean_length=20.0, ranks=1, local_ranks=1)
        >>> memory = Memory(weights=GIB, gradients=GIB, optimizer=2 * GIB, activations=0, embeddings=0, loss=0, program=0)
        >>> *_, total = memory_findings(module, shape, memory, None, None, available=3 * GIB)
        >>> total.state, total.text.strip()
        ('wrong', '4.00 GiB, at least, without activations: too much to rehearse here, of 3.00 GiB that a rank has')
    """
    if chunk is None or chunk >= shape.tokens:
        how = f"the whole batch at once, at most {shape.tokens:,} tokens"
    else:
        count = math.ceil(shape.rows * shape.views * shape.mean_length / chunk)
        how = f"chunks of {chunk:,} tokens, about {count} a step"
    if rehearsed is not None:
        how += f"; rehearsed with {rehearsed.tokens:,}"
        how += f", {rehearsed.factor:.1f} times what the tensors hold" if rehearsed.program else ""
    why = {
        "weights": "",
        "gradients": "with the buckets that ranks reduce" if shape.ranks > 1 else "",
        "optimizer": "state of the optimizer",
        "activations": how,
        "embeddings": "and tokens, of all texts",
        "loss": "workspace of the operator, at most",
        "program": "Python, libraries and the index of the data",
    }
    for name, need in vars(memory).items():
        if need:
            yield Finding(name, "ok", f"{need / GIB:6.2f} GiB" + (f"  {why[name]}" if why[name] else ""))
    beside = [part.passes for part in parts(module.objective) if part.passes]
    beside += ["the template's bias"] if module.encoder.correction is not None else []
    if beside:
        yield Finding(
            "objective", "note", f"what runs beside the encoder's pass is rehearsed with it: {', '.join(beside)}"
        )
    least = "" if rehearsed is not None else "at least, without activations: too much to rehearse here, "
    text = f"{memory.total / GIB:6.2f} GiB, {least}of {available / GIB:.2f} GiB that a rank has"
    fits = memory.total <= available
    smaller = "train adapters (lora) instead of the whole backbone, shorten data.max_length, or take a larger machine"
    if rehearsed is None:
        yield Finding("total", "note" if fits else "wrong", text, "" if fits else smaller)
        return
    fitting = fitting_chunk(memory, shape, rehearsed, chunk, available)
    now = "the whole batch" if chunk is None else f"{chunk:,}"
    if fitting >= shape.tokens:
        yield Finding("chunk", "ok", f"the whole batch of up to {shape.tokens:,} tokens would fit at once (now {now})")
    elif fitting >= shape.longest:
        yield Finding("chunk", "ok", f"up to {fitting:,} tokens a chunk would fit (now {now})")
    else:
        yield Finding("chunk", "wrong", f"not even a text of {shape.longest:,} tokens would fit")
    remedy = f"--model.chunk_tokens={fitting}" if fitting >= shape.longest else smaller
    if fits:
        yield Finding("total", "ok", text)
    else:
        yield Finding("total", "wrong", f"{text}: it does not fit", remedy)
