"""GCSE's objective: a row's own hard negative counts less while the model rates the pair as a frozen reference does."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from inbatch.kernels import pair_logits
from inbatch.losses.base import BatchFacts
from inbatch.losses.contrastive.infonce import InfoNCE, unit
from inbatch.losses.refusals import require_negatives, require_positive, require_same_tokens
from inbatch.losses.side_networks import embed_frozen
from inbatch.spelling import require_choice
from inbatch.views import TokenBatch, Views

Unit = Literal["logits", "cosine"]


class GaussianDecay(InfoNCE):
    """InfoNCE in which the logit of a row's own hard negative is decayed by a Gaussian of (live - reference) similarity.

    Args:
        reference: a frozen encoder, `inbatch.models.networks.reference.Reference`; it reads the tokens that the live one reads.
        sigma: width of the Gaussian.
        sigma_unit: ``logits``: of cosine / temperature, as released, so that another temperature is another width; ``cosine``.
        temperature: divides the cosine.
        projector: a module of training only; the reference keeps its own head.
        workspace_bytes: as in `InfoNCE`.

    Raises:
        UsageError: if sigma is not positive; before the first step, if the data has no hard negatives or the reference reads
            other tokens.

    Source: Lai et al. 2025, arXiv 2409.12887; the coefficients are those of the released code.

    Example:
        >>> z = torch.eye(2)
        >>> views = Views(z, z, (z,))  # every hard negative is as close as the positive, for the reference, too
        >>> reference = nn.Identity()  # in place of a network: the texts are given as its embeddings
        >>> round(GaussianDecay(reference, temperature=1.0)(views, views, None).loss.item(), 4)  # log(1 + 3/e): an own one's logit is 0
        0.7437
    """

    passes = "the reference"

    def __init__(
        self,
        reference: nn.Module,
        sigma: float = 0.17,
        sigma_unit: Unit = "logits",
        temperature: float = 0.05,
        projector: nn.Module | None = None,
        workspace_bytes: int | None = None,
    ) -> None:
        super().__init__(temperature, projector=projector, workspace_bytes=workspace_bytes)
        require_positive(sigma, "objective.sigma")
        require_choice(sigma_unit, get_args(Unit), "objective.sigma_unit")
        self.reference = reference
        self.sigma = sigma
        self.sigma_unit = sigma_unit

    def attach(self, encoder: Any) -> None:
        """See `Objective.attach`."""
        require_same_tokens(self.reference, encoder, "objective.reference")

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        super().check(batch)
        require_negatives(batch, self)

    def own_negative_weight(self, z: Views[Tensor], tokens: Views[TokenBatch], scale: Tensor | float) -> float | Tensor:
        """Compare the live similarities of anchors and own hard negatives with the reference's; (b, k)."""
        live = pair_logits(z.anchor, torch.stack(list(z.negatives), 1), scale)
        with torch.no_grad():
            anchor, *negatives = (
                embed_frozen(self.reference, view, self.chunk_tokens) for view in (tokens.anchor, *tokens.negatives)
            )
            frozen = unit(Views(anchor, anchor, tuple(negatives)))
            held = pair_logits(frozen.anchor, torch.stack(list(frozen.negatives), 1), scale)
        sigma = self.sigma * float(scale) if self.sigma_unit == "cosine" else self.sigma
        return gaussian_decay(live, held.to(live.dtype), sigma)


def gaussian_decay(live: Tensor, reference: Tensor, sigma: float) -> Tensor:
    """Compute what is added to the logits of own hard negatives: ``-s · exp(-(s - s')² / 2σ²)`` where ``s <= s'``, else 0.

    Args:
        live: (b, k) logits s of the live model; no gradient flows.
        reference: (b, k) logits s' of the frozen one.
        sigma: in the logits' unit.

    Returns:
        (b, k), a constant.

    Example:
        >>> live, reference = torch.tensor([[4.0, 4.0]]), torch.tensor([[4.0, 3.0]])
        >>> gaussian_decay(live, reference, sigma=0.17)  # the first logit becomes 0; the second is above the reference's, and stays
        tensor([[-4.,  0.]])
    """
    s, d = live.detach(), (live - reference).detach()
    return torch.where(d > 0, torch.zeros_like(s), -s * torch.exp(-(d**2) / (2 * sigma**2)))
