"""What an objective may read of an encoder's pass beside the embeddings: states of layers and tokens, and attention maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from inbatch.errors import UsageError
from inbatch.views import TokenBatch

if TYPE_CHECKING:
    from inbatch.models.backbones.base import Backbone


def check_reads(reads: Iterable[str], owner: str, backbone: Backbone) -> None:
    """Refuse reads that a backbone cannot give, and choose eager attention where its maps are read: no other kind computes them.

    Args:
        reads: names, as in `Objective.reads`.
        owner: who asks, for the message.
        backbone: n layers.

    Raises:
        UsageError: if a name is unknown or its number out of range, or the backbone has no learned tokens whose states could be read, or
            attention maps are read behind a prefix.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> check_reads({"layer:1", "attentions:-1"}, "Mine", backbone := TinyRandom(num_layers=2))
        >>> backbone.attention
        'eager'
        >>> check_reads({"layer:3"}, "Mine", backbone)
        Traceback (most recent call last):
        inbatch.errors.UsageError: Mine expects reads of layers, layer:k with k in [-3, 2], tokens, states_at_learned, or attentions:k \
with k in [-2, 2] except 0; got 'layer:3'. Set its reads.
    """
    total = backbone.config.get_text_config().num_hidden_layers
    for name in sorted(reads):
        kind, number = _parsed(name)
        numbered = number is not None
        known = {
            "layers": not numbered,
            "tokens": not numbered,
            "states_at_learned": not numbered,
            "layer": numbered and -total - 1 <= number <= total,  # type: ignore[operator]
            "attentions": numbered and 1 <= abs(number) <= total,  # type: ignore[arg-type]
        }
        if not known.get(kind, False):
            raise UsageError(
                f"{owner} expects reads of layers, layer:k with k in [{-total - 1}, {total}], tokens, states_at_learned, or attentions:k "
                f"with k in [{-total}, {total}] except 0; got {name!r}. Set its reads."
            )
        if kind == "states_at_learned" and backbone.learned_tokens is None:
            raise UsageError(
                f"{owner} reads the states at learned tokens; the backbone has none. Set backbone.learned_tokens."
            )
        if kind == "attentions" and backbone.prefix is not None:
            raise UsageError(
                f"{owner} reads {name}, attention among a text's tokens; backbone.prefix puts others in front of them. Drop one of the two."
            )
        if kind == "attentions":
            backbone.run_eager(f"its maps are read by {owner}")


def asks_states(reads: Iterable[str]) -> bool:
    """Say whether a network must return the states of its layers for some reads.

    Example:
        >>> asks_states({"tokens"}), asks_states({"layer:1"})
        (False, True)
    """
    return any(_parsed(name)[0] in ("layers", "layer") for name in reads)


def asks_attentions(reads: Iterable[str]) -> bool:
    """Say whether a network must return its attention maps for some reads.

    Example:
        >>> asks_attentions({"tokens", "attentions:2"})
        True
    """
    return any(_parsed(name)[0] == "attentions" for name in reads)


def picked(reads: Iterable[str], output: Any) -> dict[str, Tensor]:
    """Pick reads out of a network's output, and nothing else of it; ``tokens`` is its last state.

    Args:
        reads: names.
        output: of transformers, with ``last_hidden_state`` and, where they are read, ``hidden_states`` and ``attentions``.

    Example:
        >>> from types import SimpleNamespace
        >>> output = SimpleNamespace(last_hidden_state=torch.ones(1, 4, 2), hidden_states=[torch.zeros(1, 4, 2), torch.ones(1, 4, 2)])
        >>> {name: tuple(read.shape) for name, read in picked(["layer:0", "layers"], output).items()}
        {'layer:0': (1, 4, 2), 'layers': (1, 2, 4, 2)}
    """
    found = {}
    for name in reads:
        kind, number = _parsed(name)
        if kind == "states_at_learned":
            continue  # the encoder takes them, behind whatever stands between the network and its pooling
        if kind == "layers":
            found[name] = torch.stack(list(output.hidden_states), 1)
        elif kind == "tokens":
            found[name] = output.last_hidden_state
        elif kind == "layer":
            found[name] = output.hidden_states[number]
        else:
            assert number is not None, "checked by check_reads"
            # The maps of the layer that puts out layer:k, which transformers counts from 0.
            found[name] = output.attentions[number - 1 if number > 0 else number]
    return found


def padded(name: str, read: Tensor, tokens: TokenBatch, length: int, side: str) -> Tensor:
    """Pad a read of a chunk to the length of the whole batch; all that does not belong to a text's tokens becomes 0.

    Args:
        name: of the read.
        read: (b, l, h), (b, n + 1, l, h) or (b, heads, l, l); ``states_at_learned`` have no length and stay as they are.
        tokens: (b, l), of the chunk.
        length: L of the batch.
        side: of the padding.

    Returns:
        The same with L in the place of l.

    Example:
        >>> tokens = TokenBatch(torch.tensor([[5, 0]]), torch.tensor([[1, 0]]))
        >>> padded("tokens", torch.ones(1, 2, 1), tokens, 3, "right").flatten().tolist()
        [1.0, 0.0, 0.0]
    """
    if name == "states_at_learned":
        return read
    own = tokens.attention_mask.bool()
    missing = (length - read.shape[-2], 0) if side == "left" else (0, length - read.shape[-2])
    if _parsed(name)[0] == "attentions":
        kept = (own[:, :, None] & own[:, None, :])[:, None]
        return pad(read.masked_fill(~kept, 0.0), missing * 2)
    kept = own[:, None, :, None] if read.ndim == 4 else own[:, :, None]
    return pad(read.masked_fill(~kept, 0.0), (0, 0, *missing))


def cut(name: str, read: Tensor, length: int, side: str) -> Tensor:
    """Cut a padded read to a shorter length, from the side on which it is padded; a view.

    Example:
        >>> cut("tokens", torch.tensor([[[1.0], [2.0], [0.0]]]), 2, "right").flatten().tolist()
        [1.0, 2.0]
    """
    if name == "states_at_learned":
        return read
    for axis in (-2, -1) if _parsed(name)[0] == "attentions" else (-2,):
        read = read.narrow(axis, read.shape[axis] - length if side == "left" else 0, length)
    return read


def _parsed(name: str) -> tuple[str, int | None]:
    """Split ``layer:k`` into its kind and k; a name that has no such form is a kind of its own, without number."""
    kind, colon, number = name.partition(":")
    if colon and number.removeprefix("-").isdecimal():
        return kind, int(number)
    return name, None
