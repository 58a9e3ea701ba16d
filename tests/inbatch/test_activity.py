from __future__ import annotations

import sys
import time

import pytest

from inbatch import activity
from inbatch.activity import clock, counting, doing, now, quiet, said, spoken


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(activity, "SECONDS_BETWEEN_LINES", 0.2)
    monkeypatch.setattr(activity, "_said", 0.0)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_what_takes_long_is_said_again_and_again_and_what_is_short_never(capsys: pytest.CaptureFixture[str]):
    with spoken():
        with doing("short work"):
            pass
        assert lines(capsys) == []
        with doing("long work"):
            time.sleep(1)
        found = lines(capsys)
    assert 2 <= len(found) <= 5
    assert set(found) <= {"long work  0:00", "long work  0:01"}
    time.sleep(0.4)
    assert lines(capsys) == []


def test_the_innermost_is_said_with_its_count():
    done = 0
    with doing("evaluating"):
        assert now() == "evaluating  0:00"
        with counting(lambda: f"encoded {done}/3 texts"):
            done = 2
            assert now() == "evaluating  0:00  encoded 2/3 texts"
        with doing(lambda: "step 4/9"):
            assert now() == "step 4/9"
        assert now() == "evaluating  0:00"
    assert now() == ""
    with counting(lambda: "1 of 2"):
        assert now() == "1 of 2"


def test_nothing_is_said_beside_a_bar_or_soon_after_a_line(capsys: pytest.CaptureFixture[str]):
    with spoken(), doing("work"):
        with quiet():
            time.sleep(0.5)
            assert lines(capsys) == []
        for _ in range(8):
            said()
            time.sleep(0.05)
        assert lines(capsys) == []


def test_what_fails_is_not_said_any_more():
    with pytest.raises(ValueError, match="broken"), doing("work"), quiet():
        raise ValueError("broken")
    assert now() == ""
    assert activity._quiet == []


def test_clock():
    assert [clock(s) for s in (0, 9.6, 61, 3600 * 25 + 62)] == ["0:00", "0:10", "1:01", "25:01:02"]


def test_a_bar_is_drawn_where_no_lines_are_printed_in_its_place(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    assert activity.bars()  # a notebook: no terminal, and nobody speaks
    with activity.spoken():
        assert not activity.bars()  # a log
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Terminal())
            assert activity.bars()
    assert activity.bars()
