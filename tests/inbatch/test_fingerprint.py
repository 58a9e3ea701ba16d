"""What tells one network from another, and does not mind their precision."""

from __future__ import annotations

import torch

from inbatch.fingerprint import alike, digest, samples


def test_samples_see_sizes_and_values():
    a = torch.randn(300, 300)
    changed = a.clone()
    changed[0, 0] += 1
    assert alike(samples([a]), samples([a.clone()]))
    assert alike(samples([a]), samples([a.bfloat16()]))
    assert not alike(samples([a]), samples([changed]))
    assert not alike(samples([a]), samples([a[:299]]))
    assert not alike(samples([a]), samples([a, a]))
    assert alike(samples([]), samples([]))
    assert samples([torch.tensor(3.0)]).shape == (1, 16)


def test_digest_is_of_the_values():
    a = torch.randn(50)
    assert digest([a]) == digest([a.clone()]) == digest([a.bfloat16().float()])
    assert digest([a]) != digest([a + 1])
    assert len(digest([])) == 16
