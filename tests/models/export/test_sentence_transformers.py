"""The sentence-transformers layout: written in the legacy form, read in both, and what cannot be expressed is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from inbatch.errors import MissingError, UsageError
from inbatch.models.export.sentence_transformers import Layout, read_dense, read_layout, write_dense, write_layout
from inbatch.models.heads.dense import Dense
from inbatch.models.record import read_json


def change(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture
def folder(tmp_path):
    """Return a folder in the layout, with every optional part."""
    write_layout(tmp_path, Layout("mean", True, 64, {"query": "q: ", "document": ""}, Dense(8, 4)), hidden_size=8)
    return tmp_path


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("activation", [None, "tanh", "identity"])
def test_what_is_written_is_read(tmp_path, pooling, normalize, activation):
    head = None if activation is None else Dense(8, 4, activation, bias=activation == "tanh")
    layout = Layout(pooling, normalize, 64, {"query": "q: ", "document": ""}, head)
    write_layout(tmp_path, layout, hidden_size=8)
    read = read_layout(tmp_path)
    assert (read.pooling, read.normalize, read.max_length) == (pooling, normalize, 64)
    assert read.prompts == layout.prompts
    assert read.network == ""
    if head is None:
        assert read.head is None
    else:
        x = torch.randn(3, 8)
        assert torch.equal(read.head(x), head(x))


def test_a_default_prompt_is_kept_unless_it_is_empty(folder):
    change(folder / "config_sentence_transformers.json", default_prompt_name="query")
    assert read_layout(folder).default_prompt == "query"
    change(folder / "config_sentence_transformers.json", default_prompt_name="document")
    assert read_layout(folder).default_prompt is None


def test_legacy_names(folder):
    modules = json.loads((folder / "modules.json").read_text())
    assert [m["path"] for m in modules] == ["", "1_Pooling", "2_Dense", "3_Normalize"]
    assert all(m["type"].startswith("sentence_transformers.models.") for m in modules)
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 8
    assert [key for key, value in pooling.items() if value is True] == ["pooling_mode_mean_tokens"]
    assert "pooling_mode" not in pooling
    assert json.loads((folder / "sentence_bert_config.json").read_text()) == {
        "max_seq_length": 64,
        "do_lower_case": False,
    }


def test_the_form_of_version_6(folder):
    modules = json.loads((folder / "modules.json").read_text())
    where = [
        "base.modules.transformer",
        "sentence_transformer.modules.pooling",
        "base.modules.dense",
        "base.modules.normalize",
    ]
    for module, place in zip(modules, where):
        module["type"] = f"sentence_transformers.{place}.{module['type'].rsplit('.', 1)[-1]}"
    (folder / "modules.json").write_text(json.dumps(modules))
    pooling = {"embedding_dimension": 8, "pooling_mode": "lasttoken", "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    change(
        folder / "2_Dense" / "config.json",
        module_input_name="sentence_embedding",
        module_output_name="sentence_embedding",
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"transformer_task": "feature-extraction"}))
    read = read_layout(folder)
    assert (read.pooling, read.max_length, read.normalize) == ("last", None, True)


def test_the_network_in_a_folder_of_its_own(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "0_Transformer").mkdir()
    (folder / "0_Transformer" / "sentence_roberta_config.json").write_text('{"max_seq_length": 32}')
    read = read_layout(folder)
    assert (read.network, read.max_length) == ("0_Transformer", 32)


def test_files_that_need_not_be_there(folder):
    for name in ("sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    read = read_layout(folder)
    assert (read.max_length, read.prompts) == (None, {})


@pytest.mark.parametrize(
    "types",
    [
        ["Transformer", "Pooling", "LSTM"],
        ["Transformer", "Normalize", "Pooling"],
        ["Transformer", "Pooling", "Dense", "Dense"],
        ["StaticEmbedding"],
        ["Transformer"],
    ],
)
def test_other_modules_are_named(folder, types):
    modules = [{"path": f"{i}", "type": f"sentence_transformers.models.{name}"} for i, name in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UsageError, match=f"{types[-1]}.*Load this folder with sentence-transformers"):
        read_layout(folder)


def test_a_module_of_another_package_is_not_ours_by_its_name(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "custom_code.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UsageError, match=r"custom_code\.Pooling"):
        read_layout(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pooling_mode_max_tokens": True}, "max, mean"),
        ({"pooling_mode": ["cls", "mean"]}, "cls, mean"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"include_prompt": False}, "include_prompt"),
    ],
)
def test_other_pooling_is_refused(folder, settings, words):
    change(folder / "1_Pooling" / "config.json", **settings)
    with pytest.raises(UsageError, match=words):
        read_layout(folder)


def test_prompts_left_out_of_pooling_do_not_matter_without_prompts(folder):
    change(folder / "1_Pooling" / "config.json", include_prompt=False)
    change(folder / "config_sentence_transformers.json", prompts={"query": "", "document": None})
    assert read_layout(folder).prompts == {"query": ""}


def test_lower_casing_in_python_is_refused(folder):
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    with pytest.raises(UsageError, match="do_lower_case"):
        read_layout(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"activation_function": "torch.nn.modules.activation.ReLU"},
        {"use_residual": True},
        {"module_input_name": "token_embeddings"},
    ],
)
def test_other_dense_layers_are_refused(folder, settings):
    change(folder / "2_Dense" / "config.json", **settings)
    with pytest.raises(UsageError, match="Tanh or Identity"):
        read_layout(folder)


def test_dense_weights(folder):
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(MissingError, match=r"model\.safetensors"):
        read_dense(folder / "2_Dense")
    save_file({"linear.weight": torch.zeros(3, 3)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(UsageError, match="fit its config"):
        read_dense(folder / "2_Dense")


def test_dense_keeps_its_dtype(tmp_path):
    write_dense(tmp_path / "dense", Dense(4).to(torch.bfloat16))
    assert read_dense(tmp_path / "dense").linear.weight.dtype == torch.bfloat16


def test_json(tmp_path):
    with pytest.raises(MissingError, match="hf download"):
        read_json(tmp_path / "none.json")
    (tmp_path / "marked.json").write_bytes('\ufeff{"a": "é"}'.encode())
    assert read_json(tmp_path / "marked.json") == {"a": "é"}
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UsageError, match="expected JSON"):
        read_json(tmp_path / "bad.json")
