"""Decoders of every family, with the prompts and poolings that papers give them: no embedding depends on batch or padding."""

from __future__ import annotations

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.backbones.tiny import ENCODERS, Kind
from inbatch.models.encoder import Encoder
from inbatch.models.heads.latent_attention import LatentAttention
from inbatch.text.tokens import tokenize

FAMILIES = [kind for kind in Kind.__args__ if kind not in ENCODERS]  # type: ignore[attr-defined]
EOL = 'This sentence : "{text}" means in one word:"'
WAYS: dict[str, dict] = {
    "last, end of text": {"pooling": "last", "backbone": {"eos": "append"}},
    "instruction": {"pooling": "mean_text", "prompts": {"query": "Instruct: find it\nQuery: "}, "default_prompt": "query"},
    "PromptEOL": {"pooling": "last", "prompts": {"query": EOL}, "default_prompt": "query", "backbone": {"eos": "none"}},
    "PromptEOL, one string": {
        "pooling": "last", "prompts": {"query": EOL}, "default_prompt": "query", "one_string": True, "backbone": {"eos": "none"},
    },
    "in context": {
        "pooling": "last", "prompts": {"query": f'{EOL.replace("{text}", "Rain fell.")}Weather". {EOL}'}, "default_prompt": "query",
    },
    "MetaEOL": {
        "pooling": "last", "prompts": {"a": EOL, "b": 'Its topic, "{text}", is:"'}, "ensembles": {"meta": ["a", "b"]}, "default_prompt": "meta",
    },
    "echo": {"pooling": "mean_text", "prompts": {"query": "Rewrite: {text}, rewritten: {text}"}, "default_prompt": "query"},
    "echo, last": {"pooling": "last", "prompts": {"query": "{text}\n{text}"}, "default_prompt": "query"},
    "learned tokens": {
        "pooling": "learned", "prompts": {"query": "{text}\nIn one word:\n{learned}"}, "default_prompt": "query",
        "backbone": {"learned_tokens": 3},
    },
    "latent attention": {"pooling": "mean_text", "latent": True, "backbone": {"bidirectional": True}},
    "last layer uncovered": {"pooling": "mean", "backbone": {"bidirectional": 1}},
    "last two layers uncovered": {"pooling": "last", "backbone": {"bidirectional": 2}},
}  # fmt: skip


def encoder_of(kind: str, way: str, **backbone) -> Encoder:
    options = dict(WAYS[way])
    network = TinyRandom(kind, **{**options.pop("backbone", {}), **backbone})  # type: ignore[arg-type]
    if options.pop("latent", False):
        torch.manual_seed(0)
        options["latent"] = LatentAttention(32, latents=4, heads=2)
    torch.manual_seed(0)
    return Encoder(network, **options).eval()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_no_embedding_depends_on_batch_or_padding(kind, way, texts):
    found = []
    for side in ("left", "right"):
        torch.manual_seed(0)
        encoder = encoder_of(kind, way, padding_side=side)
        found += [encoder.encode(texts), torch.cat([encoder.encode([text]) for text in texts])]
        found += [encoder.encode(texts, token_budget=100)]
    assert found[0].shape == (len(texts), 32)
    assert (found[0][0] - found[0][1]).abs().max() > 1e-4, "different texts have different embeddings"
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=5e-6, rtol=0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_every_way_survives_an_export(kind, way, texts, tmp_path):
    encoder = encoder_of(kind, way)
    before = encoder.encode(texts)
    encoder.save_pretrained(tmp_path / "export")
    after = Encoder.from_pretrained(tmp_path / "export")
    torch.testing.assert_close(after.encode(texts), before, atol=2e-6, rtol=0)
    assert after.backbone.bidirectional == encoder.backbone.bidirectional


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_adapters_take_every_family_and_merge(kind, dtype, texts, tmp_path, stir):
    encoder = stir(Encoder(TinyRandom(kind, lora=Lora(rank=2), dtype=dtype), pooling="last")).eval()
    report = encoder.save_pretrained(tmp_path / "export")
    assert report.adapter_effect is not None
    assert report.adapter_effect > 1e-4
    merged = Encoder.from_pretrained(tmp_path / "export")
    tolerance = 1e-5 if dtype == "float32" else 5e-2  # a merged bfloat16 weight is rounded
    torch.testing.assert_close(merged.encode(texts), encoder.encode(texts), atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", FAMILIES)
def test_gradients_reach_a_checkpointed_adapter_and_equal_the_plain_ones(kind, texts):
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = TinyRandom(
            kind, lora=Lora(rank=2), gradient_checkpointing=checkpointing, bidirectional=1, learned_tokens=2
        )
        prompts = {"query": "{text}{learned}"}
        encoder = Encoder(backbone, pooling="learned", prompts=prompts)
        tokens = tokenize(encoder.tokenizer, texts, 16, prompts["query"])
        (encoder(tokens) * torch.linspace(-1, 1, 32)).sum().backward()
        found.append({name: p.grad for name, p in encoder.named_parameters() if p.requires_grad})
    assert all(gradient is not None for gradient in found[0].values())
    assert found[0]["backbone.learned_tokens.table"].abs().min() > 0
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


def test_an_opt_that_projects_its_states_gives_vectors_of_that_size(texts):
    from inbatch.models.backbones.base import Backbone
    from inbatch.models.backbones.tiny import tiny_config, tiny_tokenizer
    from inbatch.models.huggingface import random_network

    tokenizer = tiny_tokenizer("opt", 64, "left")
    config = tiny_config("opt", tokenizer, hidden_size=32, num_layers=1, num_heads=2, max_length=64)
    config.word_embed_proj_dim, config.do_layer_norm_before = 16, False  # as OPT-350m
    backbone = Backbone(random_network(config, 0, torch.float32, None), tokenizer, name="opt")
    encoder = Encoder(backbone, pooling="last").eval()
    assert encoder.dim == 16
    assert encoder.encode(texts).shape == (len(texts), 16)


def test_an_ensemble_gives_the_instruction_to_those_that_have_its_place(texts, tmp_path):
    prompts = {"a": "{text} A", "b": "{instruction} {text} B"}
    encoder = Encoder(
        TinyRandom("llama"), pooling="last", prompts=prompts, ensembles={"both": ["a", "b"]}, normalize=False
    )
    found = encoder.eval().encode(texts, prompt_name="both", instruction="Do it:")
    a, b = encoder.encode(texts, prompt_name="a"), encoder.encode(texts, prompt_name="b", instruction="Do it:")
    torch.testing.assert_close(found, (a + b) / 2)
    encoder.instruction = "Do it:"
    torch.testing.assert_close(encoder.encode(texts, prompt_name="both"), found)
    encoder.instruction = {"b": "Do it:"}
    torch.testing.assert_close(encoder.encode(texts, prompt_name="both"), found)
    encoder.save_pretrained(tmp_path / "export")
    encoder.instruction = {"query": "Do it:"}
    with pytest.raises(UsageError, match="expected an instruction and its place"):
        encoder.encode(texts, prompt_name="b")
    with pytest.raises(UsageError, match="its place"):
        encoder.encode(texts, prompt_name="a", instruction="Do it:")
    for wrong in ({"both": []}, {"both": ["a", "c"]}, {"a": ["b"]}):
        with pytest.raises(UsageError, match="expected the ensemble"):
            Encoder(TinyRandom("llama"), prompts=prompts, ensembles=wrong)
