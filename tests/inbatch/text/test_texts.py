import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbatch.text.texts import mended


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"),
        ("a \ud800 b", "a \ufffd b"),
        ("\udfff", "\ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),  # the halves of a pair, in the wrong order
        ("\ud83d\ude00 \ud83d", "\U0001f600 \ufffd"),
        ("caf\udcc3\udca9", "caf\u00e9"),  # bytes of UTF-8 that Python could not decode
        ("caf\udce9", "caf\ufffd"),
        ("\u00e9 \ud800", "\u00e9 \ufffd"),
    ],
)
def test_what_no_encoding_can_write_is_mended(text, expected):
    assert mended(text) == expected


@given(st.text(st.characters()))
def test_any_text_can_be_written_afterwards_and_whole_ones_stay(text):
    found = mended(text)
    found.encode("utf-8")
    assert mended(found) == found
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert found == text
