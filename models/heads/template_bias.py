"""PromptBERT's template denoising: what a template says of itself is subtracted from what it says of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from inbatch.kernels.rows import take
from inbatch.spelling import require_choice
from inbatch.text.templates import Template
from inbatch.views import TokenBatch

if TYPE_CHECKING:
    from inbatch.models.backbones.base import Backbone

Positions = Literal["from_zero", "own"]


class TemplateBias(nn.Module):
    """The state at the mask of the empty template, whose positions behind the text's place are shifted by the text's length.

    It is computed once a step for every template and length that occur, with gradient and one dropout draw, and has no parameters.

    Args:
        template_bias_at_test: subtract it at test, too. Unsupervised PromptBERT is tested without, supervised with it.
        after_head: ``head(h) - head(bias)`` in place of ``head(h - bias)``, as released for supervised BERT.
        bias_gradient: let the gradient flow through the bias.
        delta_positions: ``from_zero``: the template's positions begin at 0 whatever the network counts from, as released, which
            for RoBERTa is two off; ``own``: where those of a text begin.

    Raises:
        UsageError: if delta_positions is unknown.

    Source: Jiang et al. 2022, arXiv 2201.04337, section 4.2.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.text.templates import parse
        >>> backbone = TinyRandom()
        >>> template = parse(backbone.tokenizer, "{text} is {mask}")
        >>> TemplateBias()(backbone, template, torch.tensor([3, 5])).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        template_bias_at_test: bool = False,
        after_head: bool = False,
        bias_gradient: bool = True,
        delta_positions: Positions = "from_zero",
    ) -> None:
        super().__init__()
        require_choice(delta_positions, get_args(Positions), "correction.delta_positions")
        self.template_bias_at_test = template_bias_at_test
        self.after_head = after_head
        self.bias_gradient = bias_gradient
        self.delta_positions: Positions = delta_positions

    def forward(self, backbone: Backbone, template: Template, lengths: Tensor) -> Tensor:
        """Compute the bias of every text.

        Args:
            backbone: the live one.
            template: that the texts stand in; with a mask token.
            lengths: (b,) tokens of each text, without those of the template.

        Returns:
            (b, h), at least float32.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.bias_gradient):
            known, which = lengths.unique(return_inverse=True)
            states = backbone(_empty(template, known, self._first(backbone))).last[:, template.mask_position(0)]
            return take(states.to(torch.promote_types(states.dtype, torch.float32)), which)

    def of_views(self, backbone: Backbone, templates: Sequence[Template], lengths: Sequence[Tensor]) -> Tensor:
        """Compute the biases of several views, stacked in their order; views in one template share its biases.

        Args:
            backbone: the live one.
            templates: of each view.
            lengths: of each view, as in `forward`.
        """
        found: dict[int, Tensor] = {}
        for template in dict.fromkeys(templates):
            mine = [view for view, other in enumerate(templates) if other == template]
            biases = self(backbone, template, torch.cat([lengths[view] for view in mine]))
            found |= zip(mine, biases.split([len(lengths[view]) for view in mine]))
        return torch.cat([found[view] for view in range(len(templates))])

    def _first(self, backbone: Any) -> int:
        return 0 if self.delta_positions == "from_zero" else backbone.first_text_position


def _empty(template: Template, lengths: Tensor, first: int) -> TokenBatch:
    """Repeat the empty template for every length, its right side as far off as a text of that length would put it."""
    ids = torch.tensor([*template.left, *template.right], device=lengths.device).expand(len(lengths), -1)
    places = torch.arange(first, first + ids.shape[1], device=lengths.device)
    behind = torch.arange(ids.shape[1], device=lengths.device) >= len(template.left)
    return TokenBatch(ids, torch.ones_like(ids), position_ids=places + behind * lengths[:, None])
