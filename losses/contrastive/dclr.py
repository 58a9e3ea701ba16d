"""DCLR: noise as further negatives, moved to where embeddings are sparse, and false negatives left out by a second model."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.kernels import info_nce, log_sum
from inbatch.losses.base import LossOutput, project
from inbatch.losses.candidates import Candidates
from inbatch.losses.contrastive.infonce import InfoNCE, similarity_logs, unit
from inbatch.losses.contrastive.lone_rows import lone_rows, note
from inbatch.losses.refusals import require_positive, require_same_tokens
from inbatch.losses.side_networks import embed_frozen
from inbatch.norms import unit_rows
from inbatch.views import TokenBatch, Views


class DCLR(InfoNCE):
    """InfoNCE with refined noise among the candidates, without those that a complementary model holds for positives.

    Args:
        reference: a frozen encoder, `inbatch.models.networks.reference.Reference`, of the live one's tokens: a trained SimCSE.
        threshold: a candidate whose cosine with the anchor, by the reference, is above it is left out.
        noise_ratio: noise vectors for each row of this rank.
        noise_steps: steps of gradient ascent that move them.
        noise_step_size: length of each step.
        noise_temperature: of what is ascended.
        temperature: divides the cosine.
        projector: a module of training only.
        workspace_bytes: as in `InfoNCE`.

    Raises:
        UsageError: if a number is out of range; when it meets the encoder, if the reference reads other tokens.

    Source: Zhou et al. 2022, arXiv 2205.00656, eq. 2 to 6.

    Example:
        >>> z, held = torch.eye(2), torch.ones(2, 1)  # by the reference all texts are alike: no row of the batch is a negative
        >>> reference = nn.Identity()  # in place of a network: the texts are given as its embeddings
        >>> terms = [DCLR(reference, noise_ratio=ratio) for ratio in (0.0, 1.0)]  # with noise there are negatives again
        >>> [int(term(Views(z, z), Views(held, held), None).logs["rows_without_negatives"]) for term in terms]
        [2, 0]
    """

    passes = "the reference"

    def __init__(
        self,
        reference: nn.Module,
        threshold: float = 0.9,
        noise_ratio: float = 1.0,
        noise_steps: int = 4,
        noise_step_size: float = 1e-3,
        noise_temperature: float = 0.05,
        temperature: float = 0.05,
        projector: nn.Module | None = None,
        workspace_bytes: int | None = None,
    ) -> None:
        super().__init__(temperature, projector=projector, workspace_bytes=workspace_bytes)
        require_positive(noise_temperature, "objective.noise_temperature")
        if noise_ratio < 0 or noise_steps < 0 or not math.isfinite(threshold):
            raise UsageError(
                f"expected noise_ratio >= 0, noise_steps >= 0 and a finite threshold; got {noise_ratio}, {noise_steps} and "
                f"{threshold}. Set them on the objective."
            )
        self.reference = reference
        self.threshold = threshold
        self.noise_ratio = noise_ratio
        self.noise_steps = noise_steps
        self.noise_step_size = noise_step_size
        self.noise_temperature = noise_temperature

    def attach(self, encoder: Any) -> None:
        """See `Objective.attach`."""
        require_same_tokens(self.reference, encoder, "objective.reference")

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Project, make noise and contrast; see `Objective.forward`."""
        z = unit(project(z, self.projector))
        held = unit(z.replace_payloads([embed_frozen(self.reference, t, self.chunk_tokens) for t in tokens]))
        count = round(self.noise_ratio * len(z.anchor))
        noise = torch.randn(count, z.anchor.shape[1], device=z.anchor.device, dtype=z.anchor.dtype)
        noise = refine(noise, z.anchor.detach(), 1 / self.noise_temperature, self.noise_steps, self.noise_step_size)
        scale, logs = 1 / self.temperature, dict[str, Tensor | float]()
        loss = debiased_contrast(z, held, noise, self.threshold, scale, self.workspace_bytes, logs)
        return LossOutput(loss, {**similarity_logs(z, scale), **logs})


def refine(noise: Tensor, anchor: Tensor, scale: float, steps: int, step_size: float) -> Tensor:
    """Move noise up the gradient of ``Σ_i log Σ_j e^{scale · cos(anchor_i, noise_j)}``, each vector by ``step_size`` a step.

    Args:
        noise: (m, d).
        anchor: (b, d), normalised, a constant.
        scale: 1/temperature.
        steps: how often.
        step_size: Euclidean length of a vector's step.

    Returns:
        (m, d), a constant.

    Example:
        >>> noise, anchor = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
        >>> refine(noise, anchor, scale=20.0, steps=1, step_size=0.5)  # half a unit towards the anchor
        tensor([[0.5000, 1.0000]])
    """
    for _ in range(steps if len(noise) else 0):
        with torch.enable_grad():
            moved = noise.detach().requires_grad_()
            spread = log_sum(anchor, unit_rows(moved), scale=scale, own=None)
            (gradient,) = torch.autograd.grad(spread.sum(), moved)
        noise = noise + step_size * unit_rows(gradient)
    return noise.detach()


def debiased_contrast(
    z: Views[Tensor],
    held: Views[Tensor],
    noise: Tensor,
    threshold: float,
    scale: float,
    workspace_bytes: int | None = None,
    logs: dict[str, Any] | None = None,
) -> Tensor:
    """Compute the loss of this rank's rows, whose average over ranks is the mean over the global batch.

    Equals the cross entropy of ``scale · z.anchor @ [z.positive; negatives; noise]ᵀ`` with -inf where ``held`` has a cosine above
    the threshold, the row's own positive excepted.

    Args:
        z: embeddings, (b, d) a view, normalised.
        held: those of the complementary model, (b, g) a view, normalised.
        noise: (m, d), a constant.
        threshold: in the complementary model's cosine.
        scale: 1/temperature.
        workspace_bytes: as in `info_nce`.
        logs: takes the number of rows without a negative, see `lone_rows`; noise is a negative.

    Returns:
        0-d tensor.

    Example:
        >>> z, noise = torch.eye(3)[:2], torch.eye(3)[2:]  # all cosines but those of the positives are 0
        >>> held = torch.ones(2, 1)  # and 1 by the complementary model
        >>> losses = [debiased_contrast(Views(z, z), Views(held, held), noise, threshold, 2.0) for threshold in (0.9, 1.0)]
        >>> [round(loss.item(), 4) for loss in losses]  # log(1 + e^-2) of the noise alone, and log(1 + 2e^-2)
        [0.1269, 0.2395]
    """
    found = Candidates.of(z, further=unit_rows(noise))
    # A vector of zeros has cosine 0 with everything: no noise is ever left out.
    guides = found.gather(held.positive, *held.negatives)
    guides = torch.cat([guides, guides.new_zeros(len(noise), guides.shape[1])])
    guide = (held.anchor, guides, held.anchor.new_full((len(held.anchor),), threshold))
    if logs is not None:
        note(logs, lone_rows(z.anchor, found.key, **found.rules, guide=guide))
    total = info_nce(
        z.anchor, found.key, scale=scale, **found.rules, guide=guide, reduction="sum", workspace_bytes=workspace_bytes
    )
    return found.mean(total)
