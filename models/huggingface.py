"""Load a network and its tokenizer from a model folder: safetensors only, no pooler, no weight left at random."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from inbatch.errors import MissingError, UsageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# What a network is wanted for: its hidden states, or what a language model's head makes of them.
Task = Literal["states", "masked_lm", "causal_lm"]
# What configurations call their dropout rates, apart from those of classifiers.
_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "hidden_dropout",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "dropout_rate",
)


def load_config(folder: Path, name: str, *, layers: int | None, dropout: float | None) -> PretrainedConfig:
    """Read a folder's configuration, cut to the first ``layers`` layers and with every dropout rate set to ``dropout``.

    Raises:
        MissingError: if the folder has no configuration.
        UsageError: if it is for an architecture that transformers does not know, or an option does not fit it.
    """
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise MissingError(
            f"expected config.json of a Hugging Face model in {folder}; it is not there. Give the folder of a whole model, "
            f"fetch it with `hf download {name}`, or load adapters and sentence-transformers folders with Encoder.from_pretrained."
        )
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        cause = str(error).splitlines()[0][:200]
        raise UsageError(f"expected a model configuration in {folder / 'config.json'}; {cause}") from error
    if layers is not None:
        _cut_layers(config, layers)
    if dropout is not None:
        set_dropout(config, dropout)
    return config


def load_network(
    folder: Path,
    name: str,
    config: PretrainedConfig,
    dtype: torch.dtype,
    attention: str | None,
    task: Task = "states",
    quantization: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """Load the network of a folder, bare or with the head of a language model.

    Raises:
        MissingError: if the folder has no weights.
        UsageError: if the weights are not safetensors, do not fit the network, or it does not know the attention.
    """
    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
            raise UsageError(
                f"expected safetensors weights in {folder}; got pickled ones only, which can run code when loaded. "
                "Convert them with `model.save_pretrained(folder)` where you trust them."
            )
        raise MissingError(
            f"expected model.safetensors in {folder}; it is not there. Fetch the whole model with `hf download {name}`."
        )
    from safetensors import SafetensorError

    cls = class_for(config, task)
    options: dict[str, Any] = {**no_pooler(cls), **(quantization or {})}
    if attention is not None:
        options["attn_implementation"] = attention
    try:
        # What was left out on purpose (a pooler, upper layers) would be reported as unexpected.
        with quiet():
            network, report = cls.from_pretrained(
                folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        cause = str(error).splitlines()[0][:300]
        raise UsageError(f"expected weights in {folder} that {cls.__name__} can load; {cause}") from error
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise UsageError(
            f"expected all weights of {cls.__name__} in {folder}; {len(missing)} are missing and would stay random, "
            f"the first is {missing[0]}. Check that config.json belongs to the weights."
        )
    return network


def random_network(
    config: PretrainedConfig, seed: int, dtype: torch.dtype, attention: str | None, task: Task = "states"
) -> PreTrainedModel:
    """Build a network with random weights that depend on the seed alone; no generator of the caller moves."""
    cls = class_for(config, task)
    # fork_rng and the default generator's own seed: torch.manual_seed would reseed the GPUs' generators too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return cls._from_config(config, dtype=dtype, attn_implementation=attention, **no_pooler(cls))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a folder's tokenizer; one without a padding token pads with its end-of-text or unknown token.

    Raises:
        UsageError: if there is none, or it has no token to pad with.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (
        Exception
    ) as error:  # whatever a broken tokenizer file provokes: the tokenizers library raises bare Exception
        cause = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UsageError(f"expected a tokenizer in {folder}; {cause}") from error
    if tokenizer.pad_token is None:
        # Attention masks rule what is padding, so a token that also has another meaning may fill the gaps.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token is None:
            raise UsageError(
                f"expected a tokenizer with a padding token in {folder}; it has none, nor an end-of-text token"
            )
    return tokenizer


def network_class(config: PretrainedConfig) -> Any:
    """Return the class of the bare network: the encoder alone where the model is an encoder-decoder.

    Raises:
        UsageError: if transformers has no such class.
    """
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    cls = MODEL_MAPPING.get(type(config), None)
    encoder: Any = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    # An encoder that was saved alone says so by its architecture only.
    if config.is_encoder_decoder or (encoder is not None and encoder.__name__ in (config.architectures or [])):
        cls = encoder
    if cls is None or isinstance(cls, (tuple, list)):
        raise UsageError(
            f"expected an encoder or decoder of text; transformers has no such class for {type(config).__name__}"
        )
    return cls


def class_for(config: PretrainedConfig, task: Task) -> Any:
    """Return the class of the network for its states, or with the head of a masked or a causal language model.

    Raises:
        UsageError: if transformers has no such class.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if task == "states":
        return network_class(config)
    masked = task == "masked_lm"
    cls: Any = (MODEL_FOR_MASKED_LM_MAPPING if masked else MODEL_FOR_CAUSAL_LM_MAPPING).get(type(config), None)
    if cls is None:
        kind, such = (
            ("masked", "bert-base-uncased, distilbert-base-uncased or roberta-base")
            if masked
            else ("causal", "meta-llama/Llama-2-7b-hf or Qwen/Qwen3-0.6B-Base")
        )
        raise UsageError(
            f"expected a {kind} language model; transformers has none for {type(config).__name__}. Choose one such as {such}."
        )
    return cls


def set_dropout(config: PretrainedConfig, rate: float) -> None:
    """Set every dropout rate of a configuration.

    Raises:
        UsageError: if the rate is no probability, or the configuration has none to set.
    """
    if not 0 <= rate < 1:
        raise UsageError(f"expected dropout in [0, 1); got {rate}")
    names = _dropouts(config)
    if not names:
        raise UsageError(
            f"expected a backbone with dropout to set; {type(config).__name__} has none. Set backbone.dropout to null."
        )
    for name in names:
        setattr(config, name, float(rate))


def drop_nothing(config: PretrainedConfig) -> None:
    """Set every dropout rate that a configuration may have to 0."""
    for name in _dropouts(config):
        setattr(config, name, 0.0)


def _dropouts(config: PretrainedConfig) -> list[str]:
    return [name for name in _DROPOUTS if isinstance(getattr(config, name, None), (int, float))]


def checkpoint_layers(network: PreTrainedModel) -> None:
    """Recompute each layer in the backward pass, by non-reentrant checkpoints.

    transformers also makes the embeddings' output require a gradient; without it frozen embeddings below adapters would leave
    the first checkpointed layer nothing to differentiate.
    """
    # The older name is deprecated from transformers 5.23 on, the newer one is not there in 5.17.
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _cut_layers(config: PretrainedConfig, layers: int) -> None:
    config = config.get_text_config()
    total = config.num_hidden_layers
    if not 1 <= layers <= total:
        raise UsageError(f"expected layers in [1, {total}], the backbone's number of layers; got {layers}")
    config.num_hidden_layers = layers
    # Architectures that alternate kinds of attention list the kind of each layer.
    if isinstance(getattr(config, "layer_types", None), list):
        config.layer_types = config.layer_types[:layers]


def no_pooler(cls: Any) -> dict[str, bool]:
    """Return the option that leaves out a class's pooler, where it has one."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(cls.__init__).parameters else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars, and reports of what was left out on purpose."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
