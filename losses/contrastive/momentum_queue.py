"""ESimCSE's negatives: a queue of embeddings of the batches before, made by an encoder that follows the trained one slowly."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.kernels import gather, map_in_chunks
from inbatch.losses.base import BatchFacts, LossOutput
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.norms import unit_rows
from inbatch.views import TokenBatch, Views


class MomentumQueue(InfoNCE):
    """InfoNCE with a queue of anchors of earlier batches as further candidates.

    The queue's encoder and projector are moving averages of the trained ones, in eval mode and without gradient. Queue and averages
    are in the checkpoint; every rank holds the same queue, of the anchors of all ranks.

    Args:
        queue_size: embeddings that are held; ESimCSE takes 2.5 times the batch.
        momentum: share of the moving average that stays at each step.
        temperature: divides the cosine.
        projector: a module of training only.
        workspace_bytes: as in `InfoNCE`.

    Raises:
        UsageError: if the queue has no place or the momentum is no share; when it meets an encoder with a correction; before the
            first step, if its weights are in half precision, in which small steps of an average vanish.

    Source: Wu et al. 2022, arXiv 2109.04380, section 3.2.

    Example:
        >>> from inbatch.models import Encoder, TinyRandom
        >>> from inbatch.text.tokens import tokenize
        >>> encoder, objective = Encoder(TinyRandom()), MomentumQueue(queue_size=3)
        >>> objective.attach(encoder)
        >>> tokens = tokenize(encoder.tokenizer, ["a cat", "a dog"])
        >>> z = encoder(tokens)
        >>> [objective(Views(z, z), Views(tokens, tokens), encoder).logs["queued"] for step in range(3)]
        [0, 2, 3]
    """

    takes_prefixes = False
    takes_projected = False  # what is queued passes through the projector that the objective has itself
    passes = "the following encoder"
    queue: Tensor
    queue_ids: Tensor
    filled: Tensor

    moves_frozen = True  # the averages change, though no gradient reaches them

    def __init__(
        self,
        queue_size: int,
        momentum: float = 0.995,
        temperature: float = 0.05,
        projector: nn.Module | None = None,
        workspace_bytes: int | None = None,
    ) -> None:
        super().__init__(temperature, projector=projector, workspace_bytes=workspace_bytes)
        if queue_size < 1 or not 0 <= momentum < 1:
            raise UsageError(
                f"expected queue_size >= 1 and momentum in [0, 1); got {queue_size} and {momentum}. Set objective.queue_size and "
                "objective.momentum."
            )
        self.queue_size = queue_size
        self.momentum = momentum
        self.average: nn.ModuleList | None = None

    def attach(self, encoder: Any) -> None:
        """Copy encoder and projector; see `Objective.attach`."""
        if encoder.correction is not None:
            raise UsageError(
                "a momentum queue expects an encoder without a correction. Set encoder.correction to null."
            )
        followed = [encoder] if self.projector is None else [encoder, self.projector]
        self.average = nn.ModuleList(copy.deepcopy(module) for module in followed).requires_grad_(False).eval()
        width = encoder.dim
        if self.projector is not None:
            like = next(self.average[1].parameters(), torch.zeros(()))
            width = self.average[1](like.new_zeros(1, encoder.dim)).shape[1]
        self.register_buffer("queue", torch.zeros(self.queue_size, width))
        self.register_buffer("queue_ids", torch.zeros(self.queue_size, dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        super().check(batch)
        assert self.average is not None, "the objective has met its encoder"
        halves = {str(p.dtype).removeprefix("torch.") for p in self.average.parameters() if p.element_size() < 4}
        if halves:
            raise UsageError(
                f"a moving average expects weights in float32 or float64; got {', '.join(sorted(halves))}, in which its small steps "
                "vanish. Set trainer.precision to bf16-mixed or 32-true, and backbone.dtype to float32."
            )

    def train(self, mode: bool = True) -> MomentumQueue:
        """Leave the averages in eval mode."""
        super().train(mode)
        if self.average is not None:
            self.average.eval()
        return self

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Contrast with the queue as it is, then let averages and queue follow; see `Objective.forward`."""
        queued = int(self.filled)
        output = super().forward(z, tokens, encoder)
        with torch.no_grad():
            self._follow(encoder)
            self._enqueue(tokens.anchor, None if z.ids is None else z.ids.anchor)
        return LossOutput(output.loss, {**output.logs, "queued": queued})

    def further(self, z: Views[Tensor]) -> dict[str, Tensor]:
        """Return the queue's embeddings and texts."""
        filled = int(self.filled)
        if not filled:
            return {}
        found = {"further": self.queue[:filled]}
        return found if z.ids is None else {**found, "further_ids": self.queue_ids[:filled]}

    def _follow(self, encoder: nn.Module) -> None:
        assert self.average is not None, "the objective has met its encoder"
        for held, live in zip(self.average, [encoder] if self.projector is None else [encoder, self.projector]):
            for mine, theirs in zip(held.parameters(), live.parameters()):
                mine.lerp_(theirs.to(mine.dtype), 1 - self.momentum)
            for mine, theirs in zip(held.buffers(), live.buffers()):
                mine.copy_(theirs)

    def _enqueue(self, anchor: TokenBatch, ids: Tensor | None) -> None:
        assert self.average is not None, "the objective has met its encoder"
        made = map_in_chunks(self.average[0], anchor, budget=self.chunk_tokens)
        made = made if len(self.average) == 1 else self.average[1](made)
        new = gather(unit_rows(made))[0]
        texts = gather(torch.zeros(len(made), dtype=torch.int64, device=made.device) if ids is None else ids)[0]
        for buffer, rows in ((self.queue, new), (self.queue_ids, texts)):
            held = torch.cat([buffer[: int(self.filled)], rows.to(buffer.dtype)])[-self.queue_size :]
            buffer[: len(held)] = held
        self.filled.fill_(min(self.queue_size, int(self.filled) + len(new)))
