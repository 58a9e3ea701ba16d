"""Checkpoints leave out what is frozen, and refuse to go on with another network under the same adapters."""

from __future__ import annotations

import pytest
import torch
from modules import module_of

from inbatch.errors import UsageError
from inbatch.losses.compression import InformationCompression
from inbatch.models.adapters import Lora
from inbatch.models.backbones import TinyRandom
from inbatch.models.decoder import TinyDecoder
from inbatch.models.encoder import Encoder
from inbatch.models.frozen import completed, fingerprint, without_frozen


def lora_module(seed: int = 0):
    torch.manual_seed(0)
    backbone = TinyRandom("llama", lora=Lora(rank=2), learned_tokens=2, seed=seed)
    encoder = Encoder(backbone, pooling="learned", prompts={"query": "{text}{learned}", "document": "{text}{learned}"})
    return module_of(encoder, InformationCompression(TinyDecoder()))


def test_only_what_trains_is_kept_and_the_rest_is_put_back():
    module = lora_module()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    kept = checkpoint["state_dict"]
    assert set(kept) == {name for name, p in module.named_parameters() if p.requires_grad}
    other = lora_module()
    other.encoder.backbone.learned_tokens.table.data.fill_(7.0)
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])  # strictly: nothing is missing
    assert torch.equal(other.encoder.backbone.learned_tokens.table, module.encoder.backbone.learned_tokens.table)


def test_another_network_under_the_adapters_is_refused():
    checkpoint = {"state_dict": lora_module().state_dict()}
    lora_module().on_save_checkpoint(checkpoint)
    with pytest.raises(UsageError, match="the frozen weights that this run was trained with"):
        lora_module(seed=1).on_load_checkpoint(checkpoint)


def test_where_nothing_is_frozen_the_state_stays_whole():
    module = module_of()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["state_dict"].keys() == module.state_dict().keys()
    assert "frozen" not in checkpoint["inbatch"]
    assert without_frozen(module, module.state_dict()) == {}
    assert completed(module, checkpoint).keys() == module.state_dict().keys()


def test_a_fingerprint_sees_names_shapes_and_values():
    a = torch.nn.Linear(300, 300).requires_grad_(False)
    before = fingerprint(a)
    assert before == fingerprint(a)
    a.weight.data[0, 0] += 1
    assert fingerprint(a) != before
    assert fingerprint(torch.nn.Linear(3, 3)) == fingerprint(torch.nn.Linear(4, 4)), "nothing of them is frozen"
