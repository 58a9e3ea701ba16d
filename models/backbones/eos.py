"""What ends a text for a decoder: whether its tokenizer appends the end-of-text token is set there, and saved with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from inbatch.errors import UsageError
from inbatch.models.adapters.modifier import Modifier
from inbatch.spelling import require_choice
from inbatch.text.templates import parse, special_tokens

if TYPE_CHECKING:
    from inbatch.models.backbones.base import Backbone

Eos = Literal["as_is", "append", "none"]


@dataclass(frozen=True)
class EndOfText(Modifier):
    """Whether the tokenizer ends each text with its end-of-text token; see `set_eos`.

    Attributes:
        policy: ``append``, ``none`` or ``as_is``.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> ends_with(TinyRandom("mistral", eos="append").tokenizer)
        '</s>'
    """

    policy: Eos

    def attach(self, backbone: Backbone) -> None:
        """See `Modifier.attach`."""
        set_eos(backbone.tokenizer, self.policy)


def set_eos(tokenizer: Any, policy: Eos) -> None:
    """Let a tokenizer end each text with its end-of-text token, or not, in place.

    Truncation keeps the token, and the setting goes wherever the tokenizer is saved, so that training, test and other programs that
    load the folder agree on it. Equals ``ids + [eos_token_id]`` on each text, or ``ids`` without it.

    Args:
        tokenizer: of Hugging Face, built on the tokenizers library.
        policy: ``as_is`` changes nothing.

    Raises:
        UsageError: if the policy is unknown, there is no such token, or the tokenizer's own rule cannot be replaced.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> tokenizer = TinyRandom("llama").tokenizer
        >>> set_eos(tokenizer, "none")
        >>> tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
        False
    """
    require_choice(policy, get_args(Eos), "backbone.eos")
    if policy == "as_is":
        return
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"eos: {policy} expects a tokenizer with an end-of-text token; this one has none. Set backbone.eos to as_is, or give the "
            "tokenizer an eos_token."
        )
    head, tail = special_tokens(tokenizer)
    kept = tuple(token for token in tail if token != tokenizer.eos_token_id)
    wanted = kept if policy == "none" else (*kept, tokenizer.eos_token_id)
    if wanted == tail:
        return
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            f"eos: {policy} expects a tokenizer of the tokenizers library; {type(tokenizer).__name__} has rules of its own. Save one "
            "that ends its texts as you wish, and set backbone.eos to as_is."
        )
    _set_around(tokenizer, head, wanted)


def ends_with(tokenizer: Any) -> str | None:
    """Return the last token that the tokenizer puts behind a text, as a string; None for nothing.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> ends_with(TinyRandom("bert").tokenizer)
        '[SEP]'
    """
    _, tail = special_tokens(tokenizer)
    return tokenizer.convert_ids_to_tokens(tail[-1]) if tail else None


def _set_around(tokenizer: Any, head: tuple[int, ...], tail: tuple[int, ...]) -> None:
    from tokenizers import processors

    names = {token: tokenizer.convert_ids_to_tokens(token) for token in (*head, *tail)}
    single = " ".join([*(names[token] for token in head), "$A", *(names[token] for token in tail)])
    template = processors.TemplateProcessing(single=single, special_tokens=[(name, i) for i, name in names.items()])
    backend = tokenizer.backend_tokenizer
    # Byte-level vocabularies mend the places of blanks there.
    bytes_too = "ByteLevel" in json.dumps(json.loads(backend.to_str()).get("post_processor"))
    # transformers rebuilds the rule from these where a saved tokenizer names them.
    for flag, around in (("add_bos_token", head), ("add_eos_token", tail)):
        if flag in tokenizer.init_kwargs:
            tokenizer.init_kwargs[flag] = bool(around)
        if hasattr(tokenizer, f"_{flag}"):
            setattr(tokenizer, f"_{flag}", bool(around))
    parse.cache_clear()  # templates hold what stands around a text
    backend.post_processor = (
        processors.Sequence([processors.ByteLevel(trim_offsets=False), template]) if bytes_too else template
    )
