"""NV-Embed's latent attention: each token's state reads from a trained array of latents before the states are averaged."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from inbatch.errors import UsageError

# Of an export: the module's weights.
FILE = "latent_attention.safetensors"


class LatentAttention(nn.Module):
    """Cross attention from hidden states to latents, then an MLP, both with a residual; (b, L, h) -> (b, L, h), token by token.

    ``x = x + attend(norm(x), latents, latents); x = x + mlp(norm(x))``

    Args:
        hidden_size: h, the backbone's.
        latents: rows r of the trained array that is keys and values.
        heads: of the attention; they share h.
        mlp_ratio: width of the MLP's hidden layer, in multiples of h.

    Raises:
        UsageError: if the heads do not divide h, or a number is below 1.

    Source: Lee et al. 2024, arXiv 2405.17428, section 3.1, eq. 1 and 2, with r = 512 and 8 heads for h = 4,096. The paper draws no
    residuals and no norms, the released code has both.

    Example:
        >>> LatentAttention(8, latents=4, heads=2)(torch.ones(2, 3, 8)).shape
        torch.Size([2, 3, 8])
    """

    def __init__(self, hidden_size: int, latents: int = 512, heads: int = 8, mlp_ratio: int = 4) -> None:
        super().__init__()
        if latents < 1 or mlp_ratio < 1 or heads < 1 or hidden_size % heads:
            raise UsageError(
                f"expected latent attention with latents and mlp_ratio of at least 1 and heads that divide {hidden_size}; got "
                f"{latents}, {mlp_ratio} and {heads}. Set encoder.latent."
            )
        self.settings = {"hidden_size": hidden_size, "latents": latents, "heads": heads, "mlp_ratio": mlp_ratio}
        self.heads = heads
        self.latents = nn.Parameter(torch.randn(latents, hidden_size))
        self.norm, self.norm_latents = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.to_query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.to_key_value = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.to_output = nn.Linear(hidden_size, hidden_size, bias=False)
        width = mlp_ratio * hidden_size
        self.mlp = nn.Sequential(
            nn.LayerNorm(hidden_size), nn.Linear(hidden_size, width), nn.GELU(), nn.Linear(width, hidden_size)
        )

    def forward(self, states: Tensor) -> Tensor:
        """Transform the states; they are cast to the module's dtype."""
        x = states.to(self.latents.dtype)
        query = self._split(self.to_query(self.norm(x)))
        key, value = (self._split(t) for t in self.to_key_value(self.norm_latents(self.latents))[None].chunk(2, -1))
        rows = len(x)
        read = scaled_dot_product_attention(query, key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1))
        x = x + self.to_output(read.transpose(1, 2).flatten(2))
        return x + self.mlp(x)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
