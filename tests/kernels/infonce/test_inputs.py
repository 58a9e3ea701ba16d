"""Arguments of the operations by name: their order is the schema's, whatever is read from them or returned for them."""

import pytest
import torch

from inbatch.kernels.infonce import autograd  # noqa: F401  (defines the operations)
from inbatch.kernels.infonce import inputs as named
from inbatch.kernels.infonce.candidates import Rules

OPERATIONS = {
    "reduced": named.ReducedInputs,
    "log_sums": named.LogSumsInputs,
    "log_sum_gradients": named.LogSumGradientsInputs,
    "hardest": named.HardestInputs,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_names_are_the_schemas(name):
    schema = getattr(torch.ops.inbatch, name).default._schema
    assert [argument.name for argument in schema.arguments] == list(OPERATIONS[name].__dataclass_fields__)


@pytest.mark.parametrize("guide", [None, tuple(torch.randn(3, 2, 1))])
def test_rules_come_back_from_their_spelling(guide):
    rules = Rules(2, torch.zeros(3, 1), torch.ones(4, 1), None, guide)
    query = torch.zeros(3, 2)
    made = named.HardestInputs(query, query, **named.spell(rules), workspace=None, backend="auto", count=1)
    assert made.rules == rules
    tensors, others = named.tensors_of(made)
    assert set(tensors) == {"query", "key", "query_ids", "key_ids"} | (
        {"guide_query", "guide_key", "guide_ceiling"} if guide else set()
    )
    assert others["own"] == 2
    assert {**tensors, **others}.keys() == OPERATIONS["hardest"].__dataclass_fields__.keys()


def test_gradients_stand_where_their_arguments_do():
    gradient = torch.ones(())
    made = named.in_order(named.LogSumsInputs, scale=gradient)
    assert [index for index, g in enumerate(made) if g is not None] == [
        list(named.LogSumsInputs.__dataclass_fields__).index("scale")
    ]
