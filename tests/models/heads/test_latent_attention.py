"""Latent attention against plain loops, and token by token."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import layer_norm

from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.export.exported import ExportedLatentAttention
from inbatch.models.heads.latent_attention import LatentAttention
from inbatch.models.heads.pooling import OTHER_LAYER


def test_equals_a_loop_over_tokens_and_heads():
    torch.manual_seed(0)
    latent = LatentAttention(6, latents=5, heads=2, mlp_ratio=3).double()
    states = torch.randn(2, 4, 6, dtype=torch.float64)
    found = latent(states)
    rows = layer_norm(latent.latents, (6,))
    keys, values = (rows @ latent.to_key_value.weight.T).chunk(2, 1)
    for b in range(2):
        for t in range(4):
            query = layer_norm(states[b, t], (6,)) @ latent.to_query.weight.T
            read = []
            for head in (slice(0, 3), slice(3, 6)):
                weights = (keys[:, head] @ query[head] / math.sqrt(3)).softmax(0)
                read.append(weights @ values[:, head])
            x = states[b, t] + latent.to_output.weight @ torch.cat(read)
            torch.testing.assert_close(found[b, t], x + latent.mlp(x))


def test_every_weight_gets_a_gradient_and_bfloat16_states_are_cast():
    latent = LatentAttention(8, latents=3, heads=2)
    out = latent(torch.randn(2, 3, 8, dtype=torch.bfloat16))
    assert out.dtype == torch.float32
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in latent.parameters())


@pytest.mark.parametrize("options", [{"heads": 3}, {"latents": 0}, {"mlp_ratio": 0}, {"heads": 0}])
def test_sizes_that_do_not_fit_are_refused(options):
    with pytest.raises(UsageError, match="heads that divide 32"):
        LatentAttention(32, **options)


def test_another_size_than_the_backbones_is_refused():
    with pytest.raises(UsageError, match="hidden_size=32"):
        Encoder(TinyRandom("llama"), latent=LatentAttention(16))


def test_the_next_stage_goes_on_with_what_was_exported(tmp_path):
    latent = LatentAttention(32, latents=4, heads=2)
    Encoder(TinyRandom("llama"), latent=latent).eval().save_pretrained(tmp_path / "stage1")
    found = ExportedLatentAttention(str(tmp_path / "stage1"))
    assert found.settings == latent.settings
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), latent.parameters()))
    with pytest.raises(UsageError, match="it would be dropped"):
        Encoder(Pretrained(str(tmp_path / "stage1")))
    following = Encoder(Pretrained(str(tmp_path / "stage1")), latent=found).eval()
    torch.testing.assert_close(
        following.encode(["a text"]), Encoder.from_pretrained(tmp_path / "stage1").encode(["a text"])
    )
    for pooling in OTHER_LAYER:
        with pytest.raises(UsageError, match="latent attention expects pooling"):
            Encoder(TinyRandom("llama"), pooling=pooling, latent=latent)
    Encoder(TinyRandom("llama")).eval().save_pretrained(tmp_path / "plain")
    with pytest.raises(UsageError, match="an export with latent attention"):
        ExportedLatentAttention(str(tmp_path / "plain"))
