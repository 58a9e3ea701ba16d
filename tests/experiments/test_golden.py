"""If the mathematics did not change, the losses did not change: twenty steps of each method against stored curves.

Where a change of the mathematics is meant, ``python tests/support/golden.py`` writes the curves anew, and the changelog says why.
"""

import json

import golden
import pytest

STORED = json.loads(golden.CURVES.read_text())


def test_torch_draws_what_it_drew():
    """Where this fails, a torch of another stream explains what the curves below show."""
    assert golden.draws() == pytest.approx(STORED["draws"], rel=1e-12)


@pytest.mark.parametrize("recipe", golden.RECIPES)
def test_the_curve_is_the_stored_one(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    losses = golden.curve(recipe, tmp_path)
    assert len(losses) == golden.STEPS
    assert losses == pytest.approx(STORED[recipe], rel=1e-6)
    assert min(losses) < losses[0]
