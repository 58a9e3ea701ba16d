"""Findings print so that what is amiss is seen, and sum up to an exit code."""

from __future__ import annotations

import pytest

from inbatch.experiments.doctor.findings import Finding, exit_code, screen, verdict

OK = Finding("python", "ok", "3.12")
NOTE = Finding("gpu", "note", "none")
WRONG = Finding("torch", "wrong", "2.0, needs >=2.11", "pip install 'torch>=2.11'")
MISSING = Finding("peft", "missing", "not installed", "pip install peft")


@pytest.mark.parametrize(
    ("findings", "code", "words"),
    [
        ([], 0, "All is well."),
        ([OK, NOTE], 0, "All is well."),
        ([OK, WRONG], 1, "To mend: torch."),
        ([WRONG, MISSING, NOTE], 3, "To mend: torch, peft."),
    ],
)
def test_exit_code_and_verdict(findings: list[Finding], code: int, words: str):
    assert exit_code(findings) == code
    assert verdict(findings) == words


def test_screen_wraps_texts_and_leaves_remedies_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "60")
    long = Finding(
        "x", "wrong", "word " * 30, "a remedy that is much longer than a line of sixty columns may be, to be copied"
    )
    lines = screen("title", [OK, long, WRONG]).splitlines()
    assert lines[0] == "title"
    assert lines[2] == "ok      python  3.12"
    assert sum("word" in line for line in lines) > 1
    assert all(len(line) <= 60 for line in lines if "->" not in line)
    assert f"{' ' * 16}-> {long.remedy}" in lines
    assert lines[-1] == "To mend: x, torch."
