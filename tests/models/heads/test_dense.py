"""The Dense head: its numbers, its draws, its dtypes."""

from __future__ import annotations

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.export.exported import ExportedDense
from inbatch.models.heads.dense import Dense


def test_it_is_a_linear_layer_and_tanh():
    head = Dense(4, 3)
    x = torch.randn(2, 4)
    expected = torch.tanh(x @ head.linear.weight.T + head.linear.bias)
    torch.testing.assert_close(head(x), expected)
    assert (head.in_features, head.out_features) == (4, 3)
    plain = Dense(4, activation="identity", bias=False)
    torch.testing.assert_close(plain(x), x @ plain.linear.weight.T)
    assert plain.out_features == 4


def test_draws_follow_bert_and_the_global_generator():
    torch.manual_seed(3)
    head = Dense(400)
    assert head.linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert head.linear.bias.eq(0).all()
    torch.manual_seed(3)
    assert torch.equal(Dense(400).linear.weight, head.linear.weight)


def test_draws_may_be_those_of_a_plain_linear_layer():
    torch.manual_seed(3)
    plain = torch.nn.Linear(8, 8)
    torch.manual_seed(3)
    head = Dense(8, draw="torch")
    assert torch.equal(head.linear.weight, plain.weight)
    assert torch.equal(head.linear.bias, plain.bias)


def test_a_head_may_be_that_of_an_export(tmp_path):
    head = Dense(32, 16, activation="identity", bias=False)
    Encoder(TinyRandom(), head=head).eval().save_pretrained(tmp_path / "with")
    found = ExportedDense(str(tmp_path / "with"))
    x = torch.randn(3, 32)
    assert torch.equal(found(x), head(x))
    assert all(p.requires_grad for p in found.parameters())
    Encoder(TinyRandom()).eval().save_pretrained(tmp_path / "without")
    with pytest.raises(UsageError, match="expected an export with a dense head"):
        ExportedDense(str(tmp_path / "without"))


def test_half_precision_weights_take_float32_vectors():
    assert Dense(4).to(torch.bfloat16)(torch.randn(2, 4)).dtype == torch.bfloat16


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="draw to be bert or torch; got 'he'"):
        Dense(4, draw="he")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="relu"):
        Dense(4, activation="relu")  # type: ignore[arg-type]
