"""The Lightning module: one forward through the encoder for all views of a batch, then the objective."""

from __future__ import annotations

import hashlib
import math
import random
import resource
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from inbatch.accumulation import optimizer_steps, scheduled
from inbatch.errors import UsageError
from inbatch.kernels.distributed.gather import world_size
from inbatch.losses.base import ROWS_WITHOUT_NEGATIVES, contrasted_views, parts
from inbatch.losses.refusals import check_width
from inbatch.models.adapters.prefix import seeded
from inbatch.models.encoder import Encoder
from inbatch.models.reads import check_reads
from inbatch.models.training.casting import kept_wide
from inbatch.models.training.data_checks import check_data
from inbatch.models.training.dev import Dev
from inbatch.models.training.embedding import embed_views, handed, number_views
from inbatch.models.training.frozen import completed, fingerprint, without_frozen
from inbatch.models.training.optimization import Schedule, Warmup, learning_rate_factor, parameter_groups, warmup_of
from inbatch.views import TokenBatch, Views

if TYPE_CHECKING:
    from inbatch.losses.base import Objective


class EmbeddingModule(LightningModule):
    """Train an encoder with an objective.

    Numbers go to the trainer's loggers under the optimizer step (1 is the first), before the step's checkpoint is written.
    Generators are seeded at each batch from (seed, batch number, rank), so that a resumed run draws what it would have drawn.

    Args:
        encoder: what is trained and exported.
        objective: the loss, with whatever exists in training only.
        optimizer: makes the optimizer from parameter groups.
        schedule: of the learning rate, over the run's steps (by ``max_steps``, or ``max_epochs`` and the data) or ``schedule_steps``:
            constant, or a linear or cosine decay to 0.
        warmup_steps: steps of increase from 0 before it; a number below 1 is a share of all steps.
        warmup: how it increases: linear, or logarithmic, as DeepSpeed does by default and AutoRegEmbed's release did.
        schedule_steps: where the decay would end, in place of ``trainer.max_steps``; GCSE's release has 80,000 for every run.
        decay_all: apply weight decay to every parameter; by default vectors and scalars (biases, norms, temperatures) have none.
        chunk_tokens: padded tokens in one chunk of gradient caching; null runs the whole batch at once. It bounds memory and
            changes no gradient, except for the draws of dropout.
        projector_at_dev: evaluate while training with the objective's projector as the encoder's head, as GCSE's release selects its
            checkpoint; the export has no projector.
        template_bias_at_dev: evaluate while training with the template's bias subtracted, as PromptBERT's release does.
        training_tokens_at_dev: evaluate while training with texts tokenized as training does, without `period_at_test` and
            `one_string_at_test`, as PromptBERT's release does.
        max_length_at_dev: evaluate while training with texts cut to so many tokens, as GCSE's release does; null cuts as at test.
        seed: of the generators.

    Raises:
        UsageError: if a number is out of range; and before the first step, if nothing is trainable or a schedule has no end.

    Example:
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> module = EmbeddingModule(Encoder(TinyRandom()), InfoNCE(), optimizer=torch.optim.AdamW)
        >>> module.chunk_tokens
        16384
    """

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        optimizer: Callable[[Iterable], Optimizer],
        schedule: Schedule = "constant",
        warmup_steps: int | float = 0,
        warmup: Warmup = "linear",
        schedule_steps: int | None = None,
        decay_all: bool = False,
        chunk_tokens: int | None = 16384,
        projector_at_dev: bool = False,
        template_bias_at_dev: bool = False,
        training_tokens_at_dev: bool = False,
        max_length_at_dev: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (0 <= warmup_steps < 1 or (warmup_steps >= 1 and float(warmup_steps).is_integer())):
            raise UsageError(
                f"expected warmup_steps as a number of steps, or a share below 1; got {warmup_steps}. Set model.warmup_steps."
            )
        if chunk_tokens is not None and chunk_tokens < 1:
            raise UsageError(f"expected chunk_tokens >= 1 or null; got {chunk_tokens}. Set model.chunk_tokens.")
        self.dev = Dev(projector_at_dev, template_bias_at_dev, training_tokens_at_dev, max_length_at_dev)
        self.dev.check(encoder, objective.projector)
        check_width(objective, encoder.dim)
        self.encoder = encoder
        self.objective = objective
        for part in parts(objective):
            part.attach(encoder)
            part.chunk_tokens = chunk_tokens
            check_reads(part.reads, type(part).__name__, encoder.backbone)
        self.make_optimizer = optimizer
        self.schedule: Schedule = schedule
        self.warmup_steps = warmup_steps
        self.warmup: Warmup = warmup
        self.schedule_steps = schedule_steps
        self.decay_all = decay_all
        self.chunk_tokens = chunk_tokens
        self.seed = seed
        self.batches_seen = self.samples_seen = 0
        self.mean_loss = math.nan  # of the last batch, over ranks
        self.metrics: dict[str, float] = {}  # of the last optimizer step, by tag
        self._pending: list[dict[str, Any]] = []  # logs of the batches that the next step accumulates
        self._sentences, self._seconds, self._started = 0, 0.0, 0.0
        self._warned = False  # of rows without negatives
        self._padding = 0.0  # of the last batch: which share of the tokens that were computed

    def to(self, *args: Any, **kwargs: Any) -> EmbeddingModule:
        """Move and cast as any module, but keep the dtype of what a trainer's precision of whole models would spoil: see `kept_wide`."""
        with kept_wide(self, parts(self.objective)):
            super().to(*args, **kwargs)
        return self

    def configure_optimizers(self) -> Any:
        """Build the optimizer, and a schedule over the steps of the run."""
        total = self.steps() if self.schedule_steps is None else self.schedule_steps
        if self.schedule != "constant" and total < 1 and self.trainer.max_steps != 0:
            raise UsageError(
                f"the {self.schedule} schedule needs an end; got no max_steps. Set trainer.max_steps or model.schedule_steps."
            )
        schedule, increase = self.schedule, self.warmup
        warmup = 0 if self.trainer.max_steps == 0 else warmup_of(self.warmup_steps, total)
        groups = parameter_groups(self, self.decay_all)
        try:
            optimizer = self.make_optimizer(groups)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the optimizer refuses its settings: {error}. Set model.optimizer.init_args.") from error
        rates = LambdaLR(optimizer, lambda step: learning_rate_factor(step, schedule, warmup, total, increase))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def steps(self) -> int:
        """Count the optimizer steps of the run; below 1 if nothing ends it but time.

        Not by `Trainer.estimated_stepping_batches`, which would count the loader's batches, and drop its state on a resume.
        """
        data, epochs = getattr(self.trainer, "datamodule", None), self.trainer.max_epochs or 0
        steps = self.trainer.max_steps
        if steps == 0 or data is None or epochs < 1:
            return steps
        counted = optimizer_steps(scheduled(self.trainer), data.steps_per_epoch, epochs)
        return counted if steps < 0 else min(steps, counted)

    def check(self, data: Any, ranks: int, precision: str) -> None:
        """Refuse data that objective or encoder cannot use.

        Args:
            data: the data module.
            ranks: of the run.
            precision: the trainer's.

        Raises:
            UsageError: if roles or rows do not suit the objective, or a text may be longer than the encoder takes.
        """
        check_data(self.encoder, self.objective, data, ranks, precision)

    def on_fit_start(self) -> None:
        """Check the data against objective and encoder, and say what accumulation does not do."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.check(data, self.trainer.world_size, self.trainer.precision)
        if max(scheduled(self.trainer).values()) > 1:
            rank_zero_warn(
                "accumulate_grad_batches adds no in-batch negatives: each batch is contrasted with itself. For more negatives in "
                f"the same memory raise data.batch_size and keep model.chunk_tokens (now {self.chunk_tokens})."
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed all generators for this batch."""
        self._started = time.perf_counter()
        text = f"{self.seed} {self.batches_seen} {self.global_rank}"
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
        random.seed(seed)
        numpy.random.seed(seed)
        torch.manual_seed(seed)
        self.batches_seen += 1

    def training_step(self, batch: Views[TokenBatch], batch_idx: int) -> Tensor:
        """Embed all views in one pass and compute the objective's loss."""
        batch = number_views(batch)
        if any(part.same_prefix_dropout for part in parts(self.objective)):
            batch = batch.map(seeded)
        embedded = embed_views(self.encoder, self.objective, batch, self.chunk_tokens)
        if embedded.count:
            self._padding = embedded.padding
        for part in parts(self.objective):
            part.step = self.global_step
        with handed(self.objective, embedded.encodings):
            output = self.objective(embedded.z, batch, self.encoder)
        # One small reduction: the numbers of the global batch, equal on all ranks, so that all ranks judge alike.
        numbers = [output.loss.detach(), len(batch.anchor), *output.logs.values()]
        totals = torch.stack([torch.as_tensor(n, dtype=torch.float64, device=output.loss.device) for n in numbers])
        if world_size() > 1:
            torch.distributed.all_reduce(totals)
        loss, mean_rows, *logs = (totals / world_size()).tolist()
        rows = round(mean_rows * world_size())
        self.mean_loss = loss
        self.log(
            "train/loss", loss, logger=False
        )  # for callbacks that monitor it; the loggers get theirs after the step
        self.samples_seen += rows
        self._sentences += rows * max(1, embedded.count)
        seen = contrasted_views(self.objective, 2 + len(batch.negatives))
        candidates = {"negatives_per_anchor": rows * (seen - 1) - 1} if seen else {}
        found = dict(zip(output.logs, logs))
        self._pending.append({"loss": loss, **candidates, **found})
        self._warn_of_lone_rows(found, rows)
        return output.loss

    def at_dev(self) -> AbstractContextManager[Encoder]:
        """Give the encoder that checkpoints are judged by while training: what it is at test, but for the settings ``…_at_dev``."""
        return self.dev.encoder(self.encoder, self.objective.projector)

    def _warn_of_lone_rows(self, logs: dict[str, float], rows: int) -> None:
        """Warn, the first time that a batch has rows without a negative."""
        for tag, count in logs.items():
            if count and not self._warned and tag.split("/")[-1] == ROWS_WITHOUT_NEGATIVES:
                self._warned = True
                rank_zero_warn(
                    f"{count:.0f} of the {rows} rows of batch {self.batches_seen} have no negative, and so no part in the loss: every "
                    "candidate has the text of their anchor or positive, or is left out by a rule of the objective. train/"
                    f"{tag} counts them. Look for repeated texts in data.sources, or raise data.batch_size."
                )

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take the step, then hand its numbers to the loggers."""
        rates = [group["lr"] for group in optimizer.param_groups]
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self._seconds += time.perf_counter() - self._started
        logs, self._pending = self._pending, []
        for tag in logs[-1]:
            self.metrics[f"train/{tag}"] = sum(log[tag] for log in logs) / len(logs)
        self.metrics |= {
            "train/lr": rates[0],
            "train/samples_seen": self.samples_seen,
            "perf/sentences_per_s": self._sentences / self._seconds,
            "perf/padding": self._padding,
            "perf/peak_mem_gib": peak_memory_gib(self.device),
        }
        self._sentences, self._seconds = 0, 0.0
        every: int = getattr(self.trainer, "log_every_n_steps")  # noqa: B009 (set outside of the trainer's class)
        step = self.global_step + 1  # the trainer counts this step only after this hook
        if step == 1 or step % every == 0 or step == self.trainer.max_steps:
            for logger in self.trainer.loggers:
                logger.log_metrics(self.metrics, step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the time of a batch that only accumulated."""
        if self._pending:
            self._seconds += time.perf_counter() - self._started

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what decides the next batch's draws, and leave out what is frozen: it comes from where it came from."""
        checkpoint["inbatch"] = {"batches_seen": self.batches_seen, "samples_seen": self.samples_seen}
        if left := without_frozen(self, checkpoint["state_dict"]):
            checkpoint["state_dict"], checkpoint["inbatch"]["frozen"] = left, fingerprint(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back.

        Raises:
            UsageError: if what is frozen has changed since.
        """
        checkpoint["state_dict"] = completed(self, checkpoint)
        self.batches_seen = checkpoint["inbatch"]["batches_seen"]
        self.samples_seen = checkpoint["inbatch"]["samples_seen"]


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory used so far: of the GPU's allocator, or of the process on a CPU.

    Example:
        >>> peak_memory_gib(torch.device("cpu")) > 0
        True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
