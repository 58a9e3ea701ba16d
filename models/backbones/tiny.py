"""Configurations and tokenizers for tiny random backbones, made in memory: nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from inbatch.spelling import require_choice

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

Kind = Literal["bert", "roberta", "llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "opt", "gpt2"]
ENCODERS = ("bert", "roberta")

# Special tokens in the order of their ids, and the roles they play; each kind keeps the conventions of its family.
_SPECIAL: dict[str, dict[str, str]] = {
    "bert": {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    "roberta": {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    },
    "llama": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
    "mistral": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "qwen2": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "qwen3": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "gemma": {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"},
    "phi": {"eos_token": "<|endoftext|>"},
    "opt": {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "</s>", "unk_token": "</s>"},
    "gpt2": {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
}
# What each kind's tokenizer puts before and after a text.
_AROUND: dict[str, tuple[str, str]] = {
    "bert": ("[CLS]", "[SEP]"),
    "roberta": ("<s>", "</s>"),
    "llama": ("<s>", "</s>"),
    "mistral": ("<s>", ""),
    "gemma": ("<bos>", ""),
    "opt": ("</s>", ""),
}


def tiny_tokenizer(kind: Kind, max_length: int, padding_side: str) -> PreTrainedTokenizerBase:
    """Build a byte-level tokenizer: any text is one token a byte, between the special tokens of the kind's family.

    Example:
        >>> tiny_tokenizer("bert", 16, "right").tokenize("ab")
        ['a', 'b']
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    require_choice(kind, _SPECIAL, "backbone.kind")
    roles = _SPECIAL[kind]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(roles.values()))}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[symbol] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=roles.get("unk_token")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    first, last = _AROUND.get(kind, ("", ""))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}".strip(),
        special_tokens=[(token, vocabulary[token]) for token in dict.fromkeys((first, last)) if token],
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if kind == "bert" else ["input_ids", "attention_mask"]
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        padding_side=padding_side,
        model_input_names=inputs,
        **roles,
    )
    made.pad_token = made.pad_token or made.eos_token
    return made


def tiny_config(
    kind: Kind,
    tokenizer: Any,
    *,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    max_length: int,
) -> PretrainedConfig:
    """Build the configuration of a tiny backbone that fits a tiny tokenizer.

    Example:
        >>> tokenizer = tiny_tokenizer("bert", 16, "right")
        >>> tiny_config("bert", tokenizer, hidden_size=8, num_layers=1, num_heads=2, max_length=16).hidden_size
        8
    """
    from transformers import AutoConfig

    # RoBERTa counts positions from pad_token_id + 1.
    offset = tokenizer.pad_token_id + 1 if kind == "roberta" else 0
    options: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        {"gpt2": "n_inner", "opt": "ffn_dim"}.get(kind, "intermediate_size"): 2 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "max_position_embeddings": max_length + offset,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if kind == "roberta":
        options["type_vocab_size"] = 1
    elif kind == "opt":
        options["word_embed_proj_dim"] = hidden_size
    elif kind not in ("bert", "gpt2"):
        options["num_key_value_heads"] = num_heads
    if kind not in ENCODERS:
        options["tie_word_embeddings"] = True  # a language model is then the network alone
    if kind in ("qwen3", "gemma"):
        options["head_dim"] = hidden_size // num_heads
    return AutoConfig.for_model(kind, **options)
