"""Names that are meant, and the refusal of what is none of a few."""

import pytest

from inbatch.errors import UsageError
from inbatch.spelling import nearest, require_choice, suggest


def test_the_nearest_name_is_suggested_and_nothing_where_none_is_near():
    assert nearest("postive", ["anchor", "positive"]) == "positive"
    assert suggest("zebra", ["anchor", "positive"]) == ""


@pytest.mark.parametrize(
    ("value", "choices", "message"),
    [
        ("means", ("mean", "cls", "last"), "expected pooling to be mean, cls or last; got 'means'. Did you mean mean? Set"),
        (None, ("drop", "keep"), "expected pooling to be drop or keep; got None. Set encoder.pooling."),
        ("x", ("nf4",), "expected pooling to be nf4; got 'x'. Set encoder.pooling."),
    ],
)  # fmt: skip
def test_what_is_none_of_the_choices_is_refused(value, choices, message):
    require_choice(choices[0], choices, "encoder.pooling")
    with pytest.raises(UsageError) as refused:
        require_choice(value, choices, "encoder.pooling")
    assert str(refused.value).startswith(message)
