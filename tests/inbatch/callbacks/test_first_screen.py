from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inbatch.callbacks.first_screen import FirstScreen, batch_lines, model_lines, negatives
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.momentum_queue import MomentumQueue
from inbatch.losses.generative.next_tokens import NextTokens
from inbatch.losses.graded.cosent import CoSENT
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.module import EmbeddingModule
from inbatch.views import Views


def module(**options: Any) -> Any:
    encoder = Encoder(TinyRandom(lora=Lora(rank=2)))
    return EmbeddingModule(encoder, InfoNCE(), lambda groups: torch.optim.SGD(groups), **options)


def trainer(**given: Any) -> Any:
    data = SimpleNamespace(batch_size=64, describe=lambda: ["pairs.csv: 100 rows"])
    known = {"is_global_zero": True, "world_size": 2, "precision": "32-true", "accumulate_grad_batches": 1}
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(**{**known, "datamodule": data, "strategy": strategy, **given})


def test_it_is_printed_once_and_by_rank_0_only(capsys: pytest.CaptureFixture[str]):
    screen = FirstScreen(["run folder  here"], "auto: it is fast")
    for _ in range(2):
        screen.on_train_batch_start(trainer(), module(), Views(1, 2), 0)
    out = capsys.readouterr().out
    assert out.count("run folder  here") == 1
    assert "2 ranks, precision 32-true (auto: it is fast)\n" in out
    assert out.endswith("pairs.csv: 100 rows\n")
    FirstScreen(["run folder  here"], "auto: it is fast").on_train_batch_start(
        trainer(is_global_zero=False), module(), Views(1, 2), 0
    )
    assert capsys.readouterr().out == ""


def test_trainable_parameters_are_told_from_all():
    built = module()
    trainable, total = (int(text.replace(",", "")) for text in model_lines(built)["parameters"].split(" ")[::3])
    assert trainable == sum(p.numel() for p in built.parameters() if p.requires_grad)
    assert trainable < total == sum(p.numel() for p in built.parameters())


def test_the_parts_of_a_method_are_named():
    encoder = Encoder(TinyRandom(prefix=Prefix(3)), prompts={"query": "search: "})
    built = EmbeddingModule(encoder, WeightedSum({"contrast": InfoNCE(), "ranks": CoSENT()}), torch.optim.SGD)
    lines = model_lines(built)
    assert lines["model"].endswith("2 layers with a prefix of 3, mean pooling, 32 dimensions")
    assert lines["prompts"] == "query = 'search: '"
    assert lines["objective"] == "WeightedSum of InfoNCE, CoSENT"
    assert lines["info_nce"].startswith("chunked (")
    plain = model_lines(module())
    assert "info_nce" in plain
    assert "prompts" not in plain
    assert plain["objective"] == "InfoNCE"


@pytest.mark.parametrize(
    ("views", "negatives"),
    [
        (2, "63 an anchor, before"),
        (3, "127 an anchor, 1 hard negative a row among them"),
        (5, "255 an anchor, 3 hard negatives"),
    ],
)
def test_negatives_are_counted_over_all_ranks_and_views(views: int, negatives: str):
    assert batch_lines(trainer(), module(), Views(0, 1, tuple(range(views - 2))))["negatives"].startswith(negatives)


def test_the_operator_is_named_where_it_is_used_only():
    encoder = Encoder(TinyRandom("gpt2"))
    for objective in (NextTokens(), WeightedSum({"a": CoSENT(), "b": NextTokens()})):
        assert "info_nce" not in model_lines(EmbeddingModule(encoder, objective, torch.optim.SGD))


def test_negatives_are_those_that_the_objective_has():
    assert negatives(WeightedSum({"ranks": CoSENT()}), 64, 1).startswith("none: ")
    assert (
        negatives(MomentumQueue(1000), 64, 1) == "63 an anchor, before duplicates are masked, and 1,000 in a full queue"
    )


def test_accumulation_and_chunks_are_named():
    lines = batch_lines(trainer(accumulate_grad_batches=4), module(chunk_tokens=4096), Views(0, 1))
    assert lines["batch"] == "64 rows over all ranks x 4 accumulated"
    assert lines["memory"].startswith("chunks of 4,096 tokens")
    assert batch_lines(trainer(), module(chunk_tokens=None), Views(0, 1))["memory"].startswith(
        "the whole batch at once"
    )


def test_what_a_decoder_sees_and_ends_in_is_said():
    def lines(**options: Any) -> dict[str, str]:
        encoder = Encoder(TinyRandom("mistral", **options), pooling="last")
        return model_lines(EmbeddingModule(encoder, InfoNCE(), lambda groups: torch.optim.SGD(groups)))

    assert lines(eos="append")["last token"] == "</s>, put behind each text by the tokenizer"
    assert lines()["last token"].startswith("the text's or the template's own")
    assert "2 layers without causal mask, last pooling" in lines(bidirectional=True)["model"]
    assert "2 layers, the last 2 without causal mask" in lines(bidirectional=2)["model"]
    assert "2 layers, last pooling" in lines()["model"]
    assert "last token" not in model_lines(module())
