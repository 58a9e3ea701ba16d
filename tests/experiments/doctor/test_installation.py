"""An installation that lacks something is told so, by name and with the command that mends it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from inbatch.experiments.doctor import installation
from inbatch.experiments.doctor.findings import Finding
from inbatch.experiments.doctor.installation import check_imports, check_python, check_requirements, check_search_path


def by_topic(findings) -> dict[str, Finding]:
    return {finding.topic: finding for finding in findings}


def test_this_installation_is_well():
    findings = [check_python(), *check_requirements([]), *check_imports(("json", "torch"))]
    assert {finding.state for finding in findings} == {"ok"}


def test_versions_missing_old_and_optional():
    found = by_topic(
        check_requirements(
            [
                "torch>=2.11",
                "no-such-package>=1",
                "numpy>=1000",
                "another-one; platform_system=='Plan9'",
                "no-such-extra; extra=='mteb'",
                "numpy>=1; extra=='plot'",
                "no-such-tester; extra=='test'",
            ]
        )
    )
    assert found.keys() == {"packages", "no-such-package", "numpy", "extras"}
    assert found["packages"].text.startswith("in range: torch 2.")
    assert found["no-such-package"].state == "missing"
    assert found["no-such-package"].remedy == "pip install 'no-such-package>=1'"
    assert found["numpy"].state == "wrong"
    assert found["extras"].state == "note"
    assert "mteb (no-such-extra)" in found["extras"].text
    assert "plot" not in found["extras"].text
    assert "tester" not in found["extras"].text


def test_old_python(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    finding = check_python()
    assert finding.state == "wrong"
    assert finding.text.startswith("3.9.1, needs >=3.11")


def test_packages_that_do_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken_one.py").write_text("raise OSError('libgone.so.1: cannot open shared object file\\nmore')")
    (tmp_path / "broken_two.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    found = by_topic(check_imports(("broken_one", "broken_two", "absent_with_its_version", "json")))
    assert found.keys() == {"broken_one", "broken_two", "imports"}
    assert found["broken_one"].text == "does not import: OSError: libgone.so.1: cannot open shared object file"
    assert found["broken_two"].state == "wrong"
    assert "no_such_dependency" in found["broken_two"].text
    assert found["imports"].text.startswith("json (")


def test_root_of_a_checkout_on_the_search_path(monkeypatch: pytest.MonkeyPatch):
    root = Path(installation.__file__).resolve().parent.parent.parent
    monkeypatch.setattr(sys, "path", [p for p in sys.path if Path(p or ".").resolve() != root])
    assert list(check_search_path()) == []
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    (finding,) = check_search_path()
    assert finding.state == "note"
    assert "PYTHONSAFEPATH" in finding.remedy
