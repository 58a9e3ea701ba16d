"""A cache folder for each test, and small ways to write data files."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty cache folder of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("INBATCH_CACHE", str(folder))
    return folder
