"""Plan a run without training it: what `inbatch fit` would parse and build, its batch and negatives, and the memory of a step."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import torch

from inbatch.callbacks.first_screen import negatives
from inbatch.experiments.findings import Finding
from inbatch.experiments.memory import activation_bytes, state_bytes
from inbatch.kernels.selection import module_of
from inbatch.losses.base import describe, parts

if TYPE_CHECKING:
    from inbatch.fit import FitCLI

GIB = 2**30
# What a step takes at its height over what autograd keeps. Measured on the CPU with a 6-layer BERT in chunks of 2,048 to 8,192
# tokens: 1.9 to 2.8 (glibc's heap keeps holes between chunks of different lengths). An accelerator's allocator is assumed tighter.
SLACK = {"cpu": 2.5}
OTHER_SLACK = 1.3
# Texts that are tokenized to learn how long they are.
SAMPLE = 256
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
WEIGHTS = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}


@dataclass(frozen=True)
class Shape:
    """The sizes of one step on one rank.

    Attributes:
        rows: of this rank's slice of the batch.
        batch: rows of all ranks together.
        views: texts a row.
        dim: of an embedding.
        longest: tokens kept of a text, at most.
        tokens: of this rank's texts, if all are that long.
        mean_length: tokens of a text on average, in a sample.
        ranks: of the run; local_ranks: on one machine.
    """

    rows: int
    batch: int
    views: int
    dim: int
    longest: int
    tokens: int
    mean_length: float
    ranks: int
    local_ranks: int


@dataclass(frozen=True)
class Memory:
    """Bytes that one rank needs at once, by what needs them."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    embeddings: int
    loss: int
    program: int

    @property
    def total(self) -> int:
        """The sum."""
        return sum(dataclasses.astuple(self))


def plan_run(arguments: Sequence[str]) -> tuple[dict[str, Any], list[Finding]]:
    """Parse the arguments of ``inbatch fit``, build what they say, and add up what a step will need.

    Returns:
        The numbers, for a program; and the findings, for people.

    Raises:
        UsageError: if the arguments or the data are wrong, as ``inbatch fit`` would say it.
        MissingError: if a file, data set or model is not there.
    """
    from inbatch.config import locate_configs
    from inbatch.fit import FitCLI

    for name in ("lightning.pytorch", "lightning.fabric"):  # what they say about a start is in the findings
        logging.getLogger(name).setLevel(logging.WARNING)
    located, _ = locate_configs(arguments)
    cli = FitCLI(located)
    cli.build()
    trainer: Any = cli.instantiate_trainer(logger=False, enable_progress_bar=False)
    device: torch.device = trainer.strategy.root_device
    program = psutil.Process().memory_info().rss if device.type == "cpu" else 0
    module: Any = cli.model.to(device).train()
    if trainer.precision in WEIGHTS:
        module.to(WEIGHTS[trainer.precision])
    shape = shape_of(cli, trainer)
    slope = activation_bytes(module.encoder, shape.longest, AUTOCAST.get(trainer.precision))
    memory = memory_of(module, shape, slope, program)
    available = available_bytes(device, shape.local_ranks)
    facts = {"shape": vars(shape), "bytes": {**vars(memory), "total": memory.total, "available": available}}
    facts["device"], facts["precision"] = str(device), trainer.precision
    return facts, [*_run_findings(cli, trainer, shape), *_memory_findings(module, shape, memory, slope, available)]


def shape_of(cli: FitCLI, trainer: Any) -> Shape:
    """Read the sizes of a step off the built run, and the texts' true length off a sample."""
    from inbatch.data.sampler import Draw
    from inbatch.templates import filled_length

    data: Any = cli.datamodule
    encoder: Any = cli.model.encoder
    assert data.order.steps_per_epoch > 0
    dataset, collate = data.dataset(), data.collate(encoder)
    cli.model.check(data, trainer.world_size)
    # Table by table: single-source batches may have tables with more hard negatives than others. The widest counts.
    tokens, first = [], 0
    for table in data.tables:
        rows = range(first, first + len(table), math.ceil(len(table) / SAMPLE))
        first += len(table)
        tokens = max(tokens, list(collate(dataset[Draw(0, list(rows))])), key=len)
    query, document = (
        filled_length(encoder.tokenizer, encoder.prompts[side], data.max_length[side]) for side in ("query", "document")
    )
    sides = [query, *[document] * (len(tokens) - 1)]
    rows = math.ceil(data.batch_size / trainer.world_size)
    return Shape(
        rows=rows,
        batch=data.batch_size,
        views=len(tokens),
        dim=encoder.dim,
        longest=max(sides),
        tokens=rows * sum(sides),
        mean_length=sum(float(view.lengths.float().mean()) for view in tokens) / len(tokens),
        ranks=trainer.world_size,
        local_ranks=trainer.num_devices,
    )


def memory_of(module: Any, shape: Shape, activation: tuple[float, float], program: int) -> Memory:
    """Add up what one rank needs at once in the middle of a step.

    Args:
        module: the built `EmbeddingModule`, on its device and in its precision.
        shape: sizes of a step.
        activation: fixed bytes and bytes a token, of `activation_bytes`.
        program: bytes of the process itself, weights included; 0 on a GPU.
    """
    parameters = list(module.parameters())
    weights = sum(p.nbytes for p in parameters)
    trainable = [p for p in parameters if p.requires_grad]
    gradients = sum(p.nbytes for p in trainable)
    fixed, per_token = activation
    at_once = shape.tokens if module.chunk_tokens is None else min(shape.tokens, module.chunk_tokens)
    keys = shape.batch * (shape.views - 1)
    own = shape.rows * shape.views
    workspace = module_of("auto", torch.empty(0, device=module.device)).DEFAULT_WORKSPACE
    return Memory(
        weights=weights,
        # With several ranks DDP copies gradients into the buckets that it reduces.
        gradients=gradients * (2 if shape.ranks > 1 else 1),
        optimizer=round(state_bytes(module.make_optimizer) * sum(p.numel() for p in trainable)),
        activations=round(slack(module.device) * (fixed + per_token * max(at_once, shape.longest))),
        # Embeddings of this rank and the gathered keys, each with its gradient, in float32.
        embeddings=8 * shape.dim * (own + (keys if shape.ranks > 1 else 0)),
        loss=min(workspace, 8 * shape.rows * keys),
        program=max(0, program - weights),
    )


def slack(device: torch.device) -> float:
    """Return the factor between what autograd keeps and what a step takes."""
    return SLACK.get(device.type, OTHER_SLACK)


def available_bytes(device: torch.device, local_ranks: int) -> int:
    """Bytes that one rank may use; the ranks of a machine share its processor's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return (psutil.virtual_memory().available + psutil.Process().memory_info().rss) // local_ranks


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
    yield Finding("device", "ok", f"{where}, precision {trainer.precision}, strategy {type(trainer.strategy).__name__}")
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


def _memory_findings(
    module: Any, shape: Shape, memory: Memory, activation: tuple[float, float], available: int
) -> Iterator[Finding]:
    chunk = module.chunk_tokens
    if chunk is None or chunk >= shape.tokens:
        how = f"the whole batch at once, at most {shape.tokens:,} tokens"
    else:
        count = math.ceil(shape.rows * shape.views * shape.mean_length / chunk)
        how = f"chunks of {chunk:,} tokens, about {count} a step"
    why = {
        "weights": "",
        "gradients": "with the buckets that ranks reduce" if shape.ranks > 1 else "",
        "optimizer": "state of the optimizer",
        "activations": how,
        "embeddings": "with gradients",
        "loss": "workspace of the operator, at most",
        "program": "Python, libraries and the index of the data",
    }
    for name, need in vars(memory).items():
        if need:
            yield Finding(name, "ok", f"{need / GIB:6.2f} GiB" + (f"  {why[name]}" if why[name] else ""))
    beside = [part.passes for part in parts(module.objective) if part.passes]
    beside += ["the template's bias"] if module.encoder.correction is not None else []
    if beside:
        yield Finding("objective", "note", f"what runs beside the encoder's pass is not counted: {', '.join(beside)}")
    text = f"{memory.total / GIB:6.2f} GiB, roughly, of {available / GIB:.2f} GiB that a rank has here"
    if memory.total <= available:
        yield Finding("total", "ok", text)
        return
    fixed, per_token = activation
    left = 0.95 * available - (memory.total - memory.activations)
    fitting = int((left / slack(module.device) - fixed) / per_token) // 256 * 256
    remedy = (
        f"--model.chunk_tokens={fitting}"
        if fitting >= shape.longest
        else "train adapters (lora) instead of the whole backbone, shorten data.max_length, or take a larger machine"
    )
    yield Finding("total", "wrong", f"{text}: it does not fit", remedy)
