"""Put states into a network's stream, or take them out of it, before or after one of its layers, for one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.models.layers import checkpoints, layers_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Which layer, from 1 on or from the end; where; and what.
Injection = tuple[int, Literal["before", "after"], Tensor | Callable[[Tensor], Tensor | None]]


@contextmanager
def injected(network: PreTrainedModel, inject: Sequence[Injection]) -> Iterator[None]:
    """Change the stream of states at some layers while the context lasts.

    Equals, for ``(k, "after", f)``, the network with ``h = layer_k(h); h = f(h)`` in the place of ``h = layer_k(h)``.

    Args:
        network: of n layers, without gradient checkpointing: its second pass would come after the end of the context.
        inject: triples. The layer k in [1, n], or negative from the last; ``before`` or ``after`` it; and a tensor that is added to
            the states (b, L, h), or a function of them that returns others, or None to leave them as they are. Those at one place act in
            their order.

    Raises:
        UsageError: if there is no such layer or place, or the layers cannot be told or are checkpointed.

    Example:
        >>> import torch
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.text.tokens import tokenize
        >>> backbone = TinyRandom().eval()
        >>> tokens = tokenize(backbone.tokenizer, ["a text"])
        >>> shifted = backbone(tokens, inject=[(-1, "after", torch.ones(32))]).last
        >>> torch.equal(shifted, backbone(tokens).last + 1)
        True
    """
    layers = layers_of(network) if inject else None
    if inject and layers is None:
        raise UsageError(
            f"inject expects a network whose layers stand in one list; {type(network).__name__} has none. Drop inject, or choose another "
            "backbone."
        )
    if inject and checkpoints(network):
        raise UsageError(
            "inject expects layers that run once; gradient_checkpointing runs them again. Set backbone.gradient_checkpointing to false "
            "(model.chunk_tokens bounds the memory, too)."
        )
    handles: list[Any] = []
    try:
        for number, place, value in inject:
            layer = _layer(layers, number)
            change = _change(value)
            if place == "before":
                handles.append(layer.register_forward_pre_hook(_before(change), with_kwargs=True))
            elif place == "after":
                handles.append(layer.register_forward_hook(_after(change)))
            else:
                raise UsageError(f"inject expects a place before or after a layer; got {place!r}.")
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer(layers: Any, number: int) -> nn.Module:
    if not 1 <= abs(number) <= len(layers):
        raise UsageError(f"inject expects a layer in [1, {len(layers)}], or negative from the last; got {number}.")
    return layers[number - 1 if number > 0 else number]


def _change(value: Tensor | Callable[[Tensor], Tensor | None]) -> Callable[[Tensor], Tensor]:
    if isinstance(value, Tensor):
        return lambda states: states + value.to(states.dtype)

    def change(states: Tensor) -> Tensor:
        found = value(states)
        return states if found is None else found

    return change


def _before(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    return hook


def _after(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return hook
