"""The base class of edits: what a subclass must say."""

from __future__ import annotations

from typing import Any

import pytest

from inbatch.data.edits.edit import Edit


def test_an_edit_says_what_it_does_and_how_it_is_described():
    class Silent(Edit):
        def __call__(self, views, keys):
            return views

    made: Any = Silent
    with pytest.raises(TypeError, match="describe"):
        made()
    assert Edit.roles == ()
