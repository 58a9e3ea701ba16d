"""Dropout rates that cannot be set are refused."""

import pytest
from transformers import PretrainedConfig

from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.dropout import drop_nothing, set_dropout


def test_dropout_that_cannot_be_set():
    config = TinyRandom().config
    with pytest.raises(UsageError, match=r"\[0, 1\)"):
        set_dropout(config, 1.0)
    with pytest.raises(UsageError, match="has none"):
        set_dropout(PretrainedConfig(), 0.1)


def test_nothing_is_dropped():
    config = TinyRandom(dropout=0.3).config
    drop_nothing(config)
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0
