"""Modifiers: attached in order, saved and loaded by themselves, refused together; their files stay what they were to the byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy
import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.adapters.frozen import Frozen
from inbatch.models.adapters.learned_tokens import LearnedTokens
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.modifier import Modifier, refuse_conflicts, save_module
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.base import Backbone
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.record import load_module
from inbatch.text.tokens import tokenize

PROMPTS = {"query": "{text} is{learned}", "document": "{text}{learned}"}


class Doubled(Modifier):
    """Stands in for a modifier that is not among ours: it looks up every input vector twice over."""

    def inputs(self, backbone, tokens, inputs):
        vectors = 2 * backbone.network.get_input_embeddings()(tokens.input_ids)
        return {**inputs, "input_ids": None, "inputs_embeds": vectors}


def test_a_modifier_of_ones_own_changes_what_the_network_is_given(texts):
    made = TinyRandom("bert").eval()
    tokens = tokenize(made.tokenizer, texts, 20)
    vectors = 2 * made.network.get_input_embeddings()(tokens.input_ids)
    expected = made.network(inputs_embeds=vectors, attention_mask=tokens.attention_mask).last_hidden_state
    doubled = Backbone(made.network, made.tokenizer, name="mine", modifiers=[Doubled()]).eval()
    assert torch.equal(doubled(tokens).last, expected)


def test_without_modifiers_there_is_nothing_to_save_or_refuse(tmp_path: Path):
    backbone = TinyRandom()
    Modifier().save(backbone, tmp_path)
    Modifier().load(backbone, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert Modifier().positions == 0
    refuse_conflicts([Modifier(), Modifier()])
    assert backbone.modifiers == []
    assert backbone.modifier(Lora) is None


def test_one_modifier_serves_several_backbones():
    prefix = Prefix(3)
    one, other = TinyRandom(prefix=prefix), TinyRandom(prefix=prefix)
    assert one.prefix_table is not other.prefix_table
    assert one.prefix is other.prefix is prefix


def test_a_list_of_modifiers_is_checked_as_options_are():
    made = TinyRandom()
    with pytest.raises(UsageError, match="expected frozen or lora, got both"):
        Backbone(made.network, made.tokenizer, name="mine", modifiers=[Lora(), Frozen()])


def test_parameters_keep_their_order():
    """Optimizers number parameters, and sums over them are rounded in their order."""
    backbone = TinyRandom("llama", learned_tokens=2, prefix=Prefix(2))
    names = [name for name, _ in backbone.named_parameters()]
    assert (names[0], names[-1]) == ("learned_tokens.table", "prefix_table.table")


def export_of(folder: Path) -> Path:
    """An export with a prefix and learned tokens whose numbers depend on no generator of torch's."""
    backbone = TinyRandom("llama", learned_tokens=2, prefix=Prefix(2))
    for table in (backbone.learned_tokens.table, backbone.prefix_table.table):
        table.data = torch.from_numpy(numpy.arange(table.numel(), dtype="float32").reshape(table.shape) % 7 / 100)
    Encoder(backbone, pooling="learned", prompts=PROMPTS).save_pretrained(folder)
    return folder


def test_written_files_are_what_they_were(tmp_path: Path):
    folder = export_of(tmp_path / "export")
    known = {
        "learned_tokens.safetensors": "9328d7b2ebb6bfcde5b5a948948e94354ecaf3a36a722e7a4eff4ead5a152a89",
        "prefix.safetensors": "bb8dc0ed215d6dc8aee769bb5351bbbf6c0e632481206b85f69bd2a61ad1c1dc",
    }
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in known} == known
    record = json.loads((folder / "inbatch.json").read_text())
    assert list(record) == [
        "format", "kind", "pooling", "normalize", "max_length", "prompts", "head", "prefix", "mlm_transform", "correction",
        "learned_tokens", "latent", "default_prompt", "one_string_at_test", "period_at_test", "one_string", "ensembles", "dtype",
        "base", "merged", "lora", "sentence_transformers", "facts",
    ]  # fmt: skip
    assert record["prefix"] == {"length": 2, "dropout": None, "projection": None}
    assert record["learned_tokens"] == 2
    assert {name: record["base"][name] for name in ("bidirectional", "quantize", "merge_into")} == {
        "bidirectional": False,
        "quantize": None,
        "merge_into": "quantized",
    }


def test_a_folder_gives_back_what_each_modifier_wrote(tmp_path: Path, texts):
    folder = export_of(tmp_path / "export")
    found = Encoder.from_pretrained(folder)
    assert [type(modifier) for modifier in found.backbone.modifiers] == [LearnedTokens, Prefix]
    found.backbone.prefix_table.table.data.zero_()
    for modifier in found.backbone.modifiers:
        modifier.load(found.backbone, folder)
    torch.testing.assert_close(found.encode(texts), Encoder.from_pretrained(folder).encode(texts), rtol=0, atol=0)
    with pytest.raises(UsageError, match="it would be dropped"):
        Pretrained(str(folder))


def test_a_part_is_saved_and_loaded(tmp_path: Path):
    part, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    save_module(part, tmp_path / "part.safetensors")
    load_module(other, tmp_path / "part.safetensors")
    assert torch.equal(part.weight, other.weight)
