"""Every refusal of the operator: one sentence that names the argument."""

import pytest
import torch

from inbatch.kernels import hardest, info_nce, log_sum

Q, K = torch.randn(3, 4), torch.randn(5, 4)
IDS = {"query_ids": torch.arange(3), "key_ids": torch.arange(5)}
CASES = {
    "dimensions": ({"key": torch.randn(5, 6)}, "query .b, d. and key"),
    "vector": ({"query": torch.randn(4)}, "query .b, d. and key"),
    "dtypes": ({"key": K.double()}, "one float dtype"),
    "integers": ({"query": torch.ones(3, 4).long(), "key": torch.ones(5, 4).long()}, "one float dtype"),
    "devices": ({"key": K.to("meta")}, "one device"),
    "scale shape": ({"scale": torch.ones(1)}, "0-d tensor"),
    "scale zero": ({"scale": 0.0}, "positive, finite scale"),
    "scale nan": ({"scale": torch.tensor(float("nan"))}, "positive, finite scale"),
    "scale infinite": ({"scale": float("inf")}, "positive, finite scale"),
    "own too far": ({"own": 3}, r"own \+ b <= n"),
    "own negative": ({"own": -1}, r"own \+ b <= n"),
    "ids alone": ({"query_ids": torch.arange(3)}, "together or neither"),
    "ids float": ({**IDS, "query_ids": torch.zeros(3)}, "query_ids as int64"),
    "ids length": ({**IDS, "key_ids": torch.arange(4)}, "key_ids as int64 of 5 rows"),
    "ids device": ({**IDS, "key_ids": torch.arange(5, device="meta")}, "key_ids on cpu"),
    "ceiling": ({"ceiling": torch.zeros(5)}, "ceiling as a float vector"),
    "guide tuple": ({"guide": (Q, K)}, "guide_query, guide_key, guide_ceiling"),
    "guide rows": ({"guide": (Q, Q, torch.zeros(3))}, "guide embeddings"),
    "guide dtype": ({"guide": (Q, K.double(), torch.zeros(3))}, "guide embeddings of one dtype"),
    "guide ceiling": ({"guide": (Q, K, torch.zeros(5))}, "guide_ceiling"),
    "reduction": ({"reduction": "average"}, 'reduction "mean"'),
    "no positive": ({"own": None}, "expected positive where own is None"),
    "symmetric without own": (
        {"own": None, "positive": torch.zeros(3), "symmetric": True},
        "expected own where symmetric",
    ),
    "positive": ({"positive": torch.zeros(3, 1)}, "positive as a float vector"),
    "weight": ({"weight": torch.ones(3).long()}, "weight as a float vector"),
    "extra": ({"extra": torch.zeros(3)}, "extra as float"),
}
LOSS_ONLY = {"reduction", "no positive", "symmetric without own", "positive", "weight", "extra"}


@pytest.mark.parametrize("name", CASES)
def test_refused(name):
    arguments, message = CASES[name]
    with pytest.raises(ValueError, match=message):
        info_nce(**{"query": Q, "key": K, "scale": 1.0, **arguments})
    if name not in LOSS_ONLY:
        with pytest.raises(ValueError, match=message):
            log_sum(**{"query": Q, "key": K, "scale": 1.0, **arguments})
        if "scale" not in arguments:
            with pytest.raises(ValueError, match=message):
                hardest(**{"query": Q, "key": K, **arguments})
