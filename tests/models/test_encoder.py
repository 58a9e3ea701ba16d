"""The encoder: batch composition and padding change nothing, prompts and lengths are what was asked, modes come back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from inbatch.errors import UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.dense import Dense
from inbatch.models.heads.pooling import POOLINGS
from inbatch.models.inference import evaluating, token_batches
from inbatch.text.tokens import tokenize


@pytest.mark.parametrize("pooling", sorted(set(POOLINGS) - {"mask", "learned"}))
@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_batch_of_one_equals_batch_of_all_on_either_side(kind, pooling, texts):
    found = []
    for side in ("left", "right"):
        encoder = Encoder(TinyRandom(kind, padding_side=side), pooling=pooling)
        found += [encoder.encode(texts), torch.cat([encoder.encode([t]) for t in texts])]
        found += [encoder.encode(texts, token_budget=60)]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=2e-6, rtol=0)


def test_minilm_batch_composition(minilm, texts):
    encoder = Encoder(Pretrained(minilm), max_length=64)
    whole = encoder.encode(texts)
    torch.testing.assert_close(torch.cat([encoder.encode([t]) for t in texts]), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.encode(texts[::-1]).flip(0), whole, atol=1e-6, rtol=0)


def test_forward_is_encode_without_dropout(texts):
    encoder = Encoder(TinyRandom(), pooling="cls", head=Dense(32, 8)).eval()
    z = encoder(tokenize(encoder.tokenizer, texts))
    assert z.requires_grad
    assert z.shape == (len(texts), 8) == (len(texts), encoder.dim)
    torch.testing.assert_close(z.detach(), encoder.encode(texts), atol=2e-6, rtol=0)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(len(texts)))


def test_without_normalisation_vectors_keep_their_length(texts):
    raw = Encoder(TinyRandom(), normalize=False).encode(texts)
    unit = Encoder(TinyRandom()).encode(texts)
    torch.testing.assert_close(raw / raw.norm(dim=1, keepdim=True), unit)
    assert (raw.norm(dim=1) - 1).abs().min() > 0.1


@pytest.mark.parametrize(("dtype", "output"), [("bfloat16", torch.float32), ("float64", torch.float64)])
def test_forward_is_at_least_float32(dtype, output, texts):
    encoder = Encoder(TinyRandom(dtype=dtype), head=Dense(32).to(getattr(torch, dtype))).eval()
    z = encoder(tokenize(encoder.tokenizer, texts))
    assert z.dtype == output
    assert encoder.encode(texts).dtype == torch.float32


def test_autocast_keeps_the_norm_in_float32(texts):
    encoder = Encoder(TinyRandom()).eval()
    with torch.autocast("cpu", torch.bfloat16):
        z = encoder(tokenize(encoder.tokenizer, texts))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=1), torch.ones(len(texts)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_empty_and_endless_texts(kind):
    encoder = Encoder(TinyRandom(kind, max_length=32))
    z = encoder.encode(["", " ", "word " * 100_000, "\n"])
    assert z.isfinite().all()
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_prompts(texts):
    encoder = Encoder(TinyRandom(), prompts={"query": "find: ", "title": "t: "})
    assert encoder.prompts == {"query": "find: ", "document": "", "title": "t: "}
    asked = encoder.encode(texts, prompt_name="query")
    torch.testing.assert_close(asked, encoder.encode(["find: " + t for t in texts]), atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.encode(texts, prompt_name="document"), encoder.encode(texts))
    with pytest.raises(UsageError, match="document, query, title"):
        encoder.encode(texts, prompt_name="passage")


def test_max_length_cuts(texts):
    encoder = Encoder(TinyRandom(), max_length=10)
    long = encoder.encode(["abcdefgh" + "tail", "abcdefgh"])
    torch.testing.assert_close(long[0], long[1], atol=1e-6, rtol=0)
    wide = encoder.encode(["abcdefgh" + "tail", "abcdefgh"], max_length=20)
    assert (wide[0] - wide[1]).abs().max() > 1e-4


@pytest.mark.parametrize("length", [2, 0, 65])
def test_max_length_out_of_range(length):
    backbone = TinyRandom(max_length=64)
    with pytest.raises(UsageError, match=r"max_length in \[3, 64\]"):
        Encoder(backbone, max_length=length)
    with pytest.raises(UsageError, match=r"max_length in \[3, 64\]"):
        Encoder(backbone).encode(["x"], max_length=length)


def test_max_length_by_default_is_what_fits(minilm, monkeypatch):
    assert Encoder(TinyRandom("roberta", max_length=64)).max_length == 64
    assert Encoder(Pretrained(minilm, layers=1)).max_length == 256  # sentence_bert_config.json says so
    backbone = TinyRandom("llama", max_length=64)
    backbone.tokenizer.model_max_length = int(1e30)
    assert Encoder(backbone).max_length == 64
    monkeypatch.setattr(TinyRandom, "max_positions", None)
    assert Encoder(backbone).max_length == 512


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        ("one string", {}, "Put it in a list"),
        (["a", None], {}, "item 1 is NoneType"),
        (["a long one", 3, "b"], {}, "item 1 is int: 3"),
        (["a"], {"token_budget": 0}, "token_budget"),
    ],
)
def test_bad_input_is_refused(texts, options, words):
    with pytest.raises(UsageError, match=words):
        Encoder(TinyRandom()).encode(texts, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "max"}, "first_last"),
        ({"head": nn.Linear(32, 8)}, "objective"),
        ({"head": Dense(16)}, "in_features=32"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        Encoder(TinyRandom(), **options)


def test_mask_pooling_needs_a_mask_token(texts):
    with pytest.raises(UsageError, match="mask token"):
        Encoder(TinyRandom("llama"), pooling="mask")
    encoder = Encoder(TinyRandom(), pooling="mask", prompts={"query": "[MASK] is "})
    z = encoder.encode(texts, prompt_name="query")
    tokens = tokenize(encoder.tokenizer, ["[MASK] is " + t for t in texts])
    assert tokens.input_ids[:, 1].eq(encoder.tokenizer.mask_token_id).all()
    with torch.no_grad(), evaluating(encoder):
        expected = nn.functional.normalize(encoder.backbone(tokens).last[:, 1], dim=-1)
    torch.testing.assert_close(z, expected, atol=2e-6, rtol=0)
    with pytest.raises(UsageError, match="exactly one mask token"):
        encoder.encode(texts)


def test_modes_and_gradients_come_back(texts):
    encoder = Encoder(TinyRandom(lora=Lora())).train()
    encoder.backbone.network.embeddings.eval()
    modes = [m.training for m in encoder.modules()]
    encoder.encode(texts)
    assert [m.training for m in encoder.modules()] == modes
    assert len(set(modes)) == 2
    with pytest.raises(UsageError):
        encoder.encode([*texts, None])
    assert [m.training for m in encoder.modules()] == modes
    assert torch.is_grad_enabled()


def test_encode_draws_nothing(texts):
    encoder = Encoder(TinyRandom()).train()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert torch.equal(encoder.encode(texts), encoder.encode(texts))
    assert torch.equal(torch.get_rng_state(), state)


def test_more_texts_than_are_tokenized_at_a_time(monkeypatch, texts):
    encoder = Encoder(TinyRandom())
    whole = encoder.encode(texts)
    monkeypatch.setattr("inbatch.models.inference._TOKENIZED", 3)
    torch.testing.assert_close(encoder.encode(texts), whole, atol=1e-6, rtol=0)


def test_progress_goes_to_stderr_when_asked(capsys, texts):
    encoder = Encoder(TinyRandom())
    encoder.encode(texts)
    assert capsys.readouterr() == ("", "")
    encoder.encode(texts, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{len(texts)}/{len(texts)} texts" in err


def test_the_bar_counts_work_so_that_long_texts_count_for_more(monkeypatch):
    shares = []

    class Bar:
        def __init__(self, total, **_):
            self.total, self.n = total, 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            assert self.n == self.total

        def set_description_str(self, text, refresh):
            self.text = text

        def update(self, work):
            self.n += work
            shares.append((self.text, self.n / self.total))

    monkeypatch.setattr("tqdm.tqdm", Bar)
    texts = ["word " * 40] * 2 + ["a b"] * 20
    Encoder(TinyRandom(), prompts={"a": "", "b": "x "}, ensembles={"both": ["a", "b"]}).encode(
        texts, prompt_name="both", token_budget=60, max_length=30, progress=True
    )
    assert shares[0][0] == "encode 2/44 texts"
    assert shares[0][1] == pytest.approx(0.3)  # 2 of 30 tokens and 20 of 2, twice
    assert shares[-1] == ("encode 44/44 texts", 1.0)


@given(lengths=st.lists(st.integers(1, 50), max_size=30), budget=st.integers(1, 200))
def test_token_batches_hold_the_budget_and_every_row_once(lengths, budget):
    batches = list(token_batches(torch.tensor(lengths, dtype=torch.long), budget))
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch.tolist())
        assert len(batch) == 1 or len(batch) * longest <= budget


@pytest.mark.parametrize("pooling", ["mean", "first_last"])
@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_row_of_padding_embeds_as_zeros_and_spoils_no_gradient(pooling, kind, attention):
    encoder = Encoder(TinyRandom(kind, num_layers=1, attention=attention), pooling=pooling)
    tokens = tokenize(encoder.tokenizer, ["a text", "nothing", "", " "])
    tokens.attention_mask[1] = 0
    z = encoder(tokens)
    assert not z[1].any()
    assert torch.allclose(z[[0, 2, 3]].norm(dim=1), torch.ones(3))
    (z @ torch.linspace(-1, 1, z.shape[1])).sum().backward()
    assert all(p.grad.abs().max() < 100 for p in encoder.parameters() if p.grad is not None)


def test_a_head_of_zeros_is_a_zero_embedding_everywhere():
    head = Dense(32, 8, "identity")
    torch.nn.init.zeros_(head.linear.weight)
    encoder = Encoder(TinyRandom(num_layers=1), head=head, ensembles={"both": ["query", "document"]})
    for name in (None, "query", "both"):
        assert not encoder.encode(["a", ""], prompt_name=name).any()
    encoder(tokenize(encoder.tokenizer, ["a", "b"])).sum().backward()
    assert not head.linear.weight.grad.any()
