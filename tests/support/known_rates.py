"""Rates of products for tests, so that what goes by them is the same on every processor: a trial that is stubbed, both ways."""

from __future__ import annotations

import os

from inbatch.kernels.trial import Rates

# By what a step is faster in, as on a processor with AVX2 only, and on one with units for bfloat16.
KNOWN = {"float32": Rates(70.0, 65.0, 10.0), "bfloat16": Rates(160.0, 140.0, 1200.0)}
PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def usual() -> str:
    """What tests take that do not say: as the run of the tests says, which may be made twice."""
    return os.environ.get("INBATCH_TEST_FASTER", "float32")


def stub(monkeypatch, faster: str | None = None) -> None:
    """Let commands in this process find known rates in place of those of this processor; the operators are told nothing."""
    monkeypatch.setattr("inbatch.arithmetic.measured_rates", lambda anew=False: KNOWN[faster or usual()])
