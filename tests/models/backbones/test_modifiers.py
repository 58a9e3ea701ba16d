"""Options of a backbone become its modifiers, in the order in which weights have always been drawn."""

from __future__ import annotations

from typing import Any

import pytest

from inbatch.errors import UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.modifiers import modifiers_of
from inbatch.models.backbones.pretrained import TinyRandom

DEFAULTS: dict[str, Any] = {
    "bidirectional": False, "eos": "as_is", "learned_tokens": None, "gradient_checkpointing": False, "frozen": False, "lora": None,
    "prefix": None,
}  # fmt: skip


def test_the_options_of_a_configuration_are_spelled_as_a_list():
    assert modifiers_of(**DEFAULTS) == []
    backbone = TinyRandom(
        "llama", bidirectional=1, eos="none", learned_tokens=1, gradient_checkpointing=True, lora=Lora(2)
    )
    kinds = [type(modifier).__name__ for modifier in backbone.modifiers]
    assert kinds == ["Bidirectional", "EndOfText", "LearnedTokens", "GradientCheckpointing", "Lora"]
    assert (backbone.bidirectional, backbone.lora, backbone.prefix, backbone.quantize) == (1, Lora(2), None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen": True, "lora": Lora()}, "frozen or lora, got both"),
        ({"prefix": Prefix(2), "lora": Lora()}, "prefix or lora, got both: a prefix is trained on the frozen network"),
        ({"prefix": Prefix(2), "gradient_checkpointing": True}, "prefix or gradient_checkpointing, got both"),
        ({"quantize": "nf4"}, "quantized weights cannot be trained"),
    ],
)
def test_what_excludes_each_other_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        modifiers_of(**{**DEFAULTS, **options})


@pytest.mark.parametrize("options", [{"lora": Lora()}, {"frozen": True}, {"prefix": Prefix(2)}])
def test_quantized_weights_stand_under_all_that_leaves_them_alone(options: dict[str, Any]):
    assert len(modifiers_of(**{**DEFAULTS, "quantize": "nf4", **options})) == 2
