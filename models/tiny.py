"""Configurations and tokenizers for tiny random backbones, made in memory: nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from inbatch.errors import UsageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

Kind = Literal["bert", "roberta", "llama"]

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
}


def tiny_tokenizer(kind: Kind, max_length: int, padding_side: str) -> PreTrainedTokenizerBase:
    """Build a byte-level tokenizer: any text is one token a byte between a first and a last special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if kind not in _SPECIAL:
        raise UsageError(f"expected the kind of a tiny backbone to be one of {', '.join(_SPECIAL)}; got {kind!r}")
    roles = _SPECIAL[kind]
    vocabulary = {token: index for index, token in enumerate(roles.values())}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[symbol] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=roles["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    first, last = ("[CLS]", "[SEP]") if kind == "bert" else ("<s>", "</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])]
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if kind == "bert" else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        padding_side=padding_side,
        model_input_names=inputs,
        **roles,
    )


def tiny_config(
    kind: Kind,
    tokenizer: Any,
    *,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    max_length: int,
) -> PretrainedConfig:
    """Build the configuration of a tiny backbone that fits a tiny tokenizer."""
    from transformers import BertConfig, LlamaConfig, RobertaConfig

    shared = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if kind == "llama":
        return LlamaConfig(**shared, num_key_value_heads=num_heads, max_position_embeddings=max_length)
    if kind == "roberta":
        # RoBERTa counts positions from pad_token_id + 1.
        offset = tokenizer.pad_token_id + 1
        return RobertaConfig(**shared, max_position_embeddings=max_length + offset, type_vocab_size=1)
    return BertConfig(**shared, max_position_embeddings=max_length)
