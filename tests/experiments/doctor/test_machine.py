"""What the machine has, and what is said where it lacks something."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import known_rates
import pytest
import torch

from inbatch.errors import MissingError
from inbatch.experiments.doctor import machine
from inbatch.experiments.doctor.findings import exit_code
from inbatch.experiments.doctor.machine import check_devices, check_folders, check_hub, check_minilm, check_products
from inbatch.kernels.trial import Rates


def test_this_machine_is_well():
    findings = {finding.topic: finding for finding in machine.check_machine()}
    assert {
        "cpu",
        "float32",
        "bfloat16",
        "precision",
        "attention",
        "minilm",
        "hub",
        "cache",
        "run folders",
        "hub cache",
    } <= findings.keys()
    assert exit_code(list(findings.values())) == 0
    assert " times float32" in findings["bfloat16"].text


def test_a_driver_that_torch_does_not_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/" + name)
    assert [f.state for f in check_devices() if f.topic == "gpu"] == ["wrong"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert [f.state for f in check_devices() if f.topic == "gpu"] == ["note"]


@pytest.mark.parametrize(("faster", "state"), [("float32", "note"), ("bfloat16", "ok")])
def test_products_are_told_with_what_auto_takes(faster: str, state: str, monkeypatch: pytest.MonkeyPatch):
    known_rates.stub(monkeypatch, faster)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr("inbatch.arithmetic.float32_by", lambda: "oneDNN")
    found = {finding.topic: finding for finding in check_products()}
    rates = known_rates.KNOWN[faster]
    assert found["float32"].text == (
        f"oneDNN {rates.onednn:.0f}, torch's own {rates.matmul:.0f} GFLOP/s a thread; the loss takes oneDNN"
    )
    assert found["bfloat16"].state == state
    assert found["bfloat16"].text.startswith(f"{rates.bfloat16:,.0f} GFLOP/s a thread, ")
    assert ("gains nothing" in found["bfloat16"].text) == (faster == "float32")
    assert found["precision"].text.startswith(f"trainer.precision auto takes {known_rates.PRECISION[faster]} (products")


def test_doctor_tries_the_products_anew(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def measured(anew: bool = False) -> Rates:
        asked.append(anew)
        return Rates(1.0, 0.0, 1.0)

    monkeypatch.setattr("inbatch.arithmetic.measured_rates", measured)
    found = {finding.topic: finding for finding in check_products()}
    assert asked[0] is True
    assert found["float32"].text.startswith("torch's own 1 GFLOP/s")


def test_the_processor_is_named_with_its_units(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("inbatch.arithmetic.processor", lambda: "A Processor")
    monkeypatch.setattr("inbatch.arithmetic.units", lambda: "AVX2")
    (cpu,) = (finding for finding in check_devices() if finding.topic == "cpu")
    assert cpu.text.startswith("A Processor with AVX2; torch uses ")


def test_minilm_absent_is_a_note(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str):
        raise MissingError("not there")

    monkeypatch.setattr("inbatch.models.locate.locate", absent)
    finding = check_minilm()
    assert finding.state == "note"
    assert "inbatch[quickstart]" in finding.remedy


def test_hub_switches_are_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert check_hub().text == "offline: only what is in the cache (HF_HUB_OFFLINE=1)"


def test_little_space_and_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INBATCH_CACHE", str(tmp_path / "not" / "made" / "yet"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 2**30))
    findings = {finding.topic: finding for finding in check_folders()}
    assert findings["cache"].state == "note"
    assert "1.0 GiB free: little" in findings["cache"].text
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    findings = {finding.topic: finding for finding in check_folders()}
    assert findings["cache"].state == "wrong"
    assert findings["cache"].remedy == "set INBATCH_CACHE to another folder"
