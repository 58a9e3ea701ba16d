"""Masked language models: a frozen one that fills in what was masked, and the trained head of an auxiliary term."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from inbatch.errors import UsageError
from inbatch.models import huggingface
from inbatch.models.backbones.tiny import Kind, tiny_config, tiny_tokenizer
from inbatch.models.locate import locate
from inbatch.views import TokenBatch


class Generator(nn.Module):
    """A frozen masked language model that predicts every token of a text: (b, L) tokens -> (b, L) token ids.

    Args:
        network: of transformers, with the head of a masked language model.
        tokenizer: its own.
        dropout: leave its dropout on while training, as released: DiffCSE's generator is frozen, and yet in train mode.
        sample: draw each token from the predicted distribution, as the paper says; False takes the most probable one, as released.

    Example:
        >>> any(p.requires_grad for p in TinyGenerator().parameters())
        False
    """

    keeps_frozen = True

    def __init__(self, network: Any, tokenizer: Any, dropout: bool = True, sample: bool = False) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.tokenizer = tokenizer
        self.dropout = dropout
        self.sample = sample
        self._accepts = frozenset(inspect.signature(network.forward).parameters)
        self.train()  # a trainer keeps the mode that it finds

    def train(self, mode: bool = True) -> Generator:
        """Follow the mode of the training only if dropout is asked for."""
        return super().train(mode and self.dropout)

    @torch.no_grad()
    def forward(self, tokens: TokenBatch) -> Tensor:
        """Predict every token."""
        given = {"attention_mask": tokens.attention_mask, "token_type_ids": tokens.token_type_ids}
        given = {key: value for key, value in given.items() if value is not None and key in self._accepts}
        logits = self.network(input_ids=tokens.input_ids, **given).logits
        if not self.sample:
            return logits.argmax(-1)
        shares = logits.float().softmax(-1)
        return torch.multinomial(shares.flatten(0, 1), 1).view(tokens.input_ids.shape)


class PretrainedGenerator(Generator):
    """A pretrained generator.

    Args:
        name: a folder or a hub id of a masked language model, such as ``distilbert-base-uncased``.
        dropout: as in `Generator`.
        sample: as in `Generator`.

    Raises:
        MissingError: if the model is not here and cannot be fetched.
        UsageError: if it is no masked language model.

    Example:
        >>> for part in _tiny("bert", hidden_size=32, seed=0):
        ...     _ = part.save_pretrained("generator")
        >>> PretrainedGenerator("generator").tokenizer.mask_token
        '[MASK]'
    """

    def __init__(self, name: str, dropout: bool = True, sample: bool = False) -> None:
        super().__init__(*_pretrained(name), dropout, sample)


class EncoderGenerator(Generator):
    """An encoder in the place of a masked language model, where none is at hand: each token becomes the one nearest to its last state.

    It is no language model: what it puts at a mask is some word of the neighbourhood. Special tokens are never put.

    Args:
        name: of an encoder, as in `Pretrained`.
        dropout: as in `Generator`.

    Raises:
        MissingError: if the model is not here and cannot be fetched.

    Example:
        >>> import tempfile
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Encoder(TinyRandom()).save_pretrained(folder)
        ...     EncoderGenerator(folder).tokenizer.mask_token
        '[MASK]'
    """

    def __init__(self, name: str, dropout: bool = True) -> None:
        from inbatch.models.backbones.pretrained import Pretrained

        backbone = Pretrained(name)
        super().__init__(_Nearest(backbone.network, backbone.tokenizer.all_special_ids), backbone.tokenizer, dropout)


class TinyGenerator(Generator):
    """A tiny random generator with the tokenizer of `TinyRandom`, for tests and dry runs.

    Args:
        kind: bert or roberta.
        hidden_size: of its network.
        seed: of the weights.
        dropout: as in `Generator`.
        sample: as in `Generator`.

    Example:
        >>> TinyGenerator("roberta").tokenizer.mask_token
        '<mask>'
    """

    def __init__(
        self, kind: Kind = "bert", hidden_size: int = 32, seed: int = 1, dropout: bool = True, sample: bool = False
    ) -> None:
        super().__init__(*_tiny(kind, hidden_size, seed), dropout, sample)


class _Nearest(nn.Module):
    """Scores every token of the vocabulary by the cosine of its embedding with the last state, up to the state's length."""

    def __init__(self, network: Any, never: list[int]) -> None:
        super().__init__()
        self.network = network
        self.never = never

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        states = self.network(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        logits = states @ normalize(self.network.get_input_embeddings().weight, dim=-1).T.to(states.dtype)
        logits[..., self.never] = -torch.inf
        return SimpleNamespace(logits=logits)


class MaskedLMHead(nn.Module):
    """The trained head of a masked language model: states (..., h) -> logits (..., vocabulary).

    Its last matrix is its own, not tied to the embeddings of the encoder, as in SimCSE's released code.

    Args:
        network: the masked language model that it is taken out of.
        tokenizer: its own.

    Raises:
        UsageError: if its head is not one module of the network, as it is in BERT and RoBERTa.

    Example:
        >>> TinyHead()(torch.ones(2, 32)).shape[0]
        2
    """

    def __init__(self, network: Any, tokenizer: Any) -> None:
        super().__init__()
        head = getattr(network, "cls", None) or getattr(network, "lm_head", None)
        if not isinstance(head, nn.Module):
            raise UsageError(
                f"expected a masked language model whose head is one module, as BERT's or RoBERTa's; {type(network).__name__} has "
                "none. Choose another model for the head."
            )
        self.head = head.train()  # as it comes from a pretrained network it is in eval mode
        self.tokenizer = tokenizer

    def forward(self, states: Tensor) -> Tensor:
        """Compute the logits; states are cast to the head's dtype."""
        return self.head(states.to(next(self.head.parameters()).dtype))


class PretrainedHead(MaskedLMHead):
    """The head of a pretrained masked language model.

    Args:
        name: a folder or a hub id; that of the backbone.

    Raises:
        MissingError: if the model is not here and cannot be fetched.
        UsageError: if it has no such head.

    Example:
        >>> for part in _tiny("bert", hidden_size=32, seed=0):
        ...     _ = part.save_pretrained("head")
        >>> PretrainedHead("head").tokenizer.mask_token
        '[MASK]'
    """

    def __init__(self, name: str) -> None:
        super().__init__(*_pretrained(name))


class TinyHead(MaskedLMHead):
    """The head of a tiny random masked language model, for tests and dry runs.

    Args:
        kind: bert or roberta.
        hidden_size: the backbone's.
        seed: of the weights.

    Example:
        >>> TinyHead("roberta").tokenizer.mask_token
        '<mask>'
    """

    def __init__(self, kind: Kind = "bert", hidden_size: int = 32, seed: int = 2) -> None:
        super().__init__(*_tiny(kind, hidden_size, seed))


def _pretrained(name: str) -> tuple[Any, Any]:
    folder = locate(name)
    config = huggingface.load_config(folder, name, layers=None, dropout=None)
    network = huggingface.load_network(folder, name, config, torch.float32, None, "masked_lm")
    return network, huggingface.load_tokenizer(folder)


def _tiny(kind: Kind, hidden_size: int, seed: int) -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(kind, 512, "right")
    config = tiny_config(kind, tokenizer, hidden_size=hidden_size, num_layers=1, num_heads=2, max_length=512)
    return huggingface.random_network(config, seed, torch.float32, None, "masked_lm"), tokenizer
