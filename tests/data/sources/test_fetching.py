from __future__ import annotations

from pathlib import Path

import datasets
import huggingface_hub
import pytest

from inbatch.data.sources.fetching import fetch_file, open_hub, open_saved
from inbatch.data.sources.sources import Source, load
from inbatch.errors import MissingError, UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_saved_folders_are_opened_with_splits_and_without():
    rows = datasets.Dataset.from_dict({"a": ["x", "y"]})
    rows.save_to_disk("saved")
    datasets.DatasetDict(train=rows, dev=rows.select([1])).save_to_disk("splits")
    assert open_saved(Path("saved"), None)["a"][:] == ["x", "y"]
    assert open_saved(Path("splits"), None)["a"][:] == ["x", "y"]
    assert open_saved(Path("splits"), "dev")["a"][:] == ["y"]
    for path, split, why in (
        ("saved", "dev", "without splits"),
        ("splits", "test", "no split test"),
        (".", None, "save_to_disk"),
    ):
        with pytest.raises(UsageError, match=why):
            open_saved(Path(path), split)


@pytest.mark.parametrize("address", ["hf://datasets/owner/name", "hf://datasets/owner//file.txt"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(UsageError, match="expected hf://datasets/OWNER/NAME/FILE"):
        fetch_file(address)


def test_the_split_train_is_the_default(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **options: (given, options))
    assert open_hub("owner/name", None, None) == (("owner/name", None), {"split": "train"})


def test_a_hub_data_set_that_cannot_be_fetched_names_the_command(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(MissingError) as error:
        load(Source("owner/name", subset="small"))
    assert str(error.value).endswith(
        "python -c \"from datasets import load_dataset; load_dataset('owner/name', 'small')\""
    )
    assert error.value.exit_code == 3


def test_a_hub_data_set_is_loaded_by_id_subset_and_split(monkeypatch):
    def fetch(path, subset, split):
        return datasets.Dataset.from_dict({"anchor": [f"{path} {subset} {split}"], "positive": ["y"]})

    monkeypatch.setattr(datasets, "load_dataset", fetch)
    assert load(Source("owner/name", subset="s")).rows["anchor"][:] == ["owner/name s train"]
    assert load(Source("name", split="dev")).rows["anchor"][:] == ["name None dev"]


def test_an_unknown_split_of_a_hub_data_set_is_bad_usage(monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("Unknown split \"dev\". Should be one of ['train'].")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UsageError, match=r"Should be one of \['train'\]"):
        load(Source("owner/name", split="dev"))


def test_a_file_of_the_hub_is_fetched_and_read(monkeypatch):
    def fetch(repository, file, repo_type):
        assert (repository, file, repo_type) == ("owner/name", "dir/file.txt", "dataset")
        Path("file.txt").write_text("one\n")
        return str(Path("file.txt").absolute())

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert load(Source("hf://datasets/owner/name/dir/file.txt")).rows["text"][:] == ["one"]


def test_a_file_of_the_hub_that_cannot_be_fetched_names_the_command(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError) as error:
        load(Source("hf://datasets/owner/name/file.txt"))
    assert str(error.value).endswith("hf download --repo-type dataset owner/name file.txt")
