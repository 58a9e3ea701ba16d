"""Learned tokens equal a larger embedding, whatever else of the network trains, and their tokenizer knows them."""

from __future__ import annotations

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.adapters.learned_tokens import LearnedTable, count_in
from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.text.templates import learned_ids
from inbatch.text.tokens import tokenize

PROMPTS = {"query": "{text}\nIn one word:{learned}", "document": "{text}{learned}"}


def encoder_of(kind="llama", count=3, **options) -> Encoder:
    torch.manual_seed(0)
    return Encoder(
        TinyRandom(kind, learned_tokens=count, dropout=None, **options), pooling="learned", prompts=PROMPTS
    ).eval()


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "gemma", "opt", "gpt2"])
def test_they_equal_rows_of_a_larger_embedding(kind, texts):
    encoder = encoder_of(kind)
    table = encoder.backbone.learned_tokens
    tokens = tokenize(encoder.tokenizer, texts, 30, PROMPTS["query"])
    z = encoder(tokens)
    z.sum().backward()
    plain = TinyRandom(kind).eval()
    plain.network.resize_token_embeddings(len(encoder.tokenizer), mean_resizing=False)
    embedding = plain.network.get_input_embeddings()
    # What a scaled embedding (Gemma's) must hold so that a look-up gives the table's vectors.
    scale = embedding(torch.tensor([5])) / embedding.weight[5]
    embedding.weight.data[table.first :] = table.table.data / scale

    states = plain(tokens).last
    expected = torch.stack([states[i, tokens.slots["learned"][i]].mean(0) for i in range(len(texts))])
    torch.testing.assert_close(z, torch.nn.functional.normalize(expected, dim=-1), atol=3e-6, rtol=0)
    torch.nn.functional.normalize(expected, dim=-1).sum().backward()
    rows = embedding.weight.grad[table.first :] / scale
    torch.testing.assert_close(table.table.grad, rows, atol=1e-6, rtol=1e-4)


def test_they_stand_behind_the_template_and_are_pooled():
    encoder = encoder_of()
    ids = learned_ids(encoder.tokenizer)
    assert encoder.tokenizer.convert_ids_to_tokens(ids) == ["<EMBED0>", "<EMBED1>", "<EMBED2>"]
    batch = tokenize(encoder.tokenizer, ["a long text that is cut <EMBED0> somewhere", "x"], 8, PROMPTS["query"])
    assert batch.input_ids.gather(1, batch.slots["learned"]).tolist() == [ids, ids]
    start, stop = batch.slots["text"][0].tolist()
    assert encoder.tokenizer.decode(batch.input_ids[0, start:stop]) == "a long t"
    states = encoder.at_learned(batch)
    assert states.shape == (2, 3, 32)
    torch.testing.assert_close(encoder(batch), torch.nn.functional.normalize(states.mean(1), dim=-1))


def test_they_begin_at_the_mean_of_the_vocabulary():
    table = encoder_of().backbone.learned_tokens.table
    weight = TinyRandom("llama").network.get_input_embeddings().weight
    torch.testing.assert_close(table, weight.mean(0).expand_as(table), atol=1e-5, rtol=0)
    assert len(table.unique(dim=0)) == 3, "nearly equal, not equal"


@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"lora": Lora(rank=2)}], ids=["full", "frozen", "lora"])
def test_an_export_brings_them_to_the_next_stage(options, texts, tmp_path):
    encoder = encoder_of(**options)
    encoder.backbone.learned_tokens.table.data.normal_()
    before = encoder.encode(texts, prompt_name="query")
    encoder.save_pretrained(tmp_path / "stage1")
    assert count_in(tmp_path / "stage1") == 3
    torch.testing.assert_close(
        Encoder.from_pretrained(tmp_path / "stage1").encode(texts, prompt_name="query"), before, atol=2e-6, rtol=0
    )
    following = Encoder(Pretrained(str(tmp_path / "stage1")), pooling="learned", prompts=PROMPTS)
    assert torch.equal(following.backbone.learned_tokens.table, encoder.backbone.learned_tokens.table)
    torch.testing.assert_close(following.encode(texts, prompt_name="query"), before, atol=2e-6, rtol=0)
    with pytest.raises(UsageError, match="learned_tokens of 3"):
        Pretrained(str(tmp_path / "stage1"), learned_tokens=5)


def test_an_adapter_alone_brings_them_too(texts, tmp_path):
    TinyRandom("llama").network.save_pretrained(tmp_path / "base")
    TinyRandom("llama").tokenizer.save_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    backbone = Pretrained(str(tmp_path / "base"), lora=Lora(rank=2), learned_tokens=3)
    encoder = Encoder(backbone, pooling="learned", prompts=PROMPTS).eval()
    encoder.backbone.learned_tokens.table.data.normal_()
    encoder.save_pretrained(tmp_path / "export")
    found = Encoder.from_pretrained(tmp_path / "export" / "adapter")
    torch.testing.assert_close(
        found.encode(texts, prompt_name="query"), encoder.encode(texts, prompt_name="query"), atol=2e-6, rtol=0
    )


def test_refusals(texts):
    with pytest.raises(UsageError, match="a backbone with learned tokens; it has none"):
        Encoder(TinyRandom("llama"), pooling="learned", prompts={"query": "{text}"})
    with pytest.raises(UsageError, match="a tokenizer with learned tokens"):
        Encoder(TinyRandom("llama"), pooling="last", prompts=PROMPTS)
    with pytest.raises(UsageError, match=r"pooling `learned` expects one \{learned\}.*it has 0"):
        Encoder(TinyRandom("llama", learned_tokens=2), pooling="learned", prompts={"query": "{text} in short"})
    with pytest.raises(UsageError, match="behind the text"):
        Encoder(TinyRandom("llama", learned_tokens=2), pooling="last", prompts={"query": "{learned}{text}"})
    with pytest.raises(UsageError, match="learned_tokens of at least 1"):
        TinyRandom("llama", learned_tokens=-1)
    torch.testing.assert_close(encoder_of().encode(texts), encoder_of().encode(texts, prompt_name="query"))
    with pytest.raises(UsageError, match="these have none"):
        encoder_of()(tokenize(encoder_of().tokenizer, texts, 30))
    members = {"a": "{text}{learned}", "b": "say: "}
    with pytest.raises(UsageError, match="in each prompt of an ensemble"):
        Encoder(TinyRandom("llama", learned_tokens=2), pooling="learned", prompts=members, ensembles={"c": ["a", "b"]})
    scattered = TinyRandom("llama").tokenizer
    scattered.add_tokens(["<EMBED1>", "between", "<EMBED0>"])
    with pytest.raises(UsageError, match="one after the other"):
        LearnedTable(2, TinyRandom("llama").network, scattered)
    unprompted = Encoder(TinyRandom("llama", learned_tokens=2), pooling="learned")
    with pytest.raises(UsageError, match=r"a prompt with \{learned\}; there is none"):
        unprompted.save_pretrained("nowhere")
