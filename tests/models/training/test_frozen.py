"""Checkpoints leave out what is frozen, and refuse to go on with another network under the same adapters."""

from __future__ import annotations

import pytest
import torch
from modules import module_of

from inbatch.errors import UsageError
from inbatch.losses.contrastive.momentum_queue import MomentumQueue
from inbatch.losses.generative.compression import InformationCompression
from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.networks.decoder import TinyDecoder
from inbatch.models.training.frozen import completed, without_frozen


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


def test_it_is_the_same_in_every_precision():
    whole = lora_module()
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        half = lora_module().to(dtype)
        checkpoint = {"state_dict": half.state_dict()}
        half.on_save_checkpoint(checkpoint)
        half.encoder.backbone.learned_tokens.table.data.fill_(3.0)
        checkpoint["state_dict"]["encoder.backbone.learned_tokens.table"] = half.encoder.backbone.learned_tokens.table
        whole.on_load_checkpoint(checkpoint)  # a trainer loads before it casts
        whole.load_state_dict(checkpoint["state_dict"])
        assert whole.encoder.backbone.learned_tokens.table.eq(3).all()
        assert torch.equal(
            whole.encoder.backbone.network.norm.weight, lora_module().encoder.backbone.network.norm.weight
        )
        assert whole.encoder.backbone.network.dtype == torch.float32


def test_averages_that_follow_the_encoder_are_kept():
    module = module_of(objective=MomentumQueue(6, 0.9, 0.1))
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["state_dict"].keys() == module.state_dict().keys()
    module = module_of(Encoder(TinyRandom(num_layers=1, lora=Lora(rank=2))), MomentumQueue(6, 0.9, 0.1))
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    left_out = module.state_dict().keys() - checkpoint["state_dict"].keys()
    assert left_out
    assert all(name.startswith("encoder.") for name in left_out)


def test_packed_weights_leave_out_what_unpacks_them(tmp_path):
    pytest.importorskip("bitsandbytes")
    base = TinyRandom("llama", hidden_size=64, num_heads=4)
    base.network.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)

    def packed():
        torch.manual_seed(0)
        return module_of(Encoder(Pretrained(str(tmp_path), quantize="nf4", lora=Lora(rank=2)), pooling="last"))

    module = packed()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert all("lora_" in name for name in checkpoint["state_dict"])
    other = packed()
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
