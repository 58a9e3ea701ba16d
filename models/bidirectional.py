"""Let the tokens of a decoder see those after them, and check that they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from inbatch.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def uncover(network: PreTrainedModel) -> None:
    """Take the causal mask off a decoder, in place, and check that its tokens then see those after them.

    Raises:
        UsageError: if the network is no decoder, does not heed the setting, or runs flash attention (not tested there).
    """
    name = type(network).__name__
    if getattr(network.config, "is_causal", None) is False:
        return
    if network.config._attn_implementation == "flash_attention_2":
        raise UsageError("bidirectional attention runs with sdpa or eager only. Set attention to sdpa.")
    if any(_sees_ahead(network)):
        raise UsageError(f"expected a decoder to make bidirectional; {name} is bidirectional already. Drop the option.")
    network.config.is_causal = False
    if not all(_sees_ahead(network)):
        raise UsageError(
            f"expected a decoder whose causal mask can be taken off; {name} keeps it. Drop `bidirectional`."
        )


@torch.no_grad()
def _sees_ahead(network: PreTrainedModel) -> list[bool]:
    """Say whether the first token's state depends on the last token, without padding and with it."""
    training = network.training
    network.eval()
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 8]], device=network.device)
    seen = []
    for mask in ([1, 1, 1, 1], [1, 1, 1, 0]):
        attention_mask = torch.tensor([mask, mask], device=network.device)
        first = network(input_ids=ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        seen.append(not torch.equal(first[0], first[1]))
    network.train(training)
    return seen
