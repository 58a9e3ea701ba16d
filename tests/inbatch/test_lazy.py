"""Public names of a package: those it lists, classes of its own files, and nothing else."""

import pytest

from inbatch import losses, models
from inbatch.lazy import exports


def test_names_that_are_listed_come_from_where_they_are():
    assert losses.InfoNCE.__module__ == "inbatch.losses.contrastive.infonce"
    assert "InfoNCE" in losses.__all__


def test_a_class_of_its_files_needs_no_list(tmp_path):
    (tmp_path / "package.py").write_text("")
    get, names = exports("inbatch.losses", str(tmp_path / "package.py"))
    assert names == []
    assert get("SigLIP").__module__ == "inbatch.losses.contrastive.siglip"


@pytest.mark.parametrize("name", ["Encoder", "Nothing", "infonce_of", "_SigLIP"])
def test_what_is_not_there_is_no_attribute(name):
    with pytest.raises(AttributeError, match=f"module 'inbatch.losses' has no attribute '{name}'"):
        getattr(losses, name)
    assert models.Encoder.__module__ == "inbatch.models.encoder"
