"""What the machine has, and what is said where it lacks something."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from inbatch.errors import MissingError
from inbatch.experiments import machine
from inbatch.experiments.findings import exit_code
from inbatch.experiments.machine import check_bfloat16, check_devices, check_folders, check_hub, check_minilm


def test_this_machine_is_well():
    findings = {finding.topic: finding for finding in machine.check_machine()}
    assert {"cpu", "bfloat16", "attention", "minilm", "hub", "cache", "run folders", "hub cache"} <= findings.keys()
    assert exit_code(list(findings.values())) == 0
    assert "times as fast as float32" in findings["bfloat16"].text


def test_a_driver_that_torch_does_not_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/" + name)
    assert [f.state for f in check_devices() if f.topic == "gpu"] == ["wrong"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert [f.state for f in check_devices() if f.topic == "gpu"] == ["note"]


def test_half_precision_without_units_is_a_note(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "_product_seconds", lambda a: 1.0)
    assert check_bfloat16().state == "note"


def test_minilm_absent_is_a_note(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str):
        raise MissingError("not there")

    monkeypatch.setattr("inbatch.models.names.locate", absent)
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
