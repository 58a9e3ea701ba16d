"""Random arguments for the operator, drawn from one seed and a few switches, so that hypothesis can shrink them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

SWITCHES = (
    "ids",
    "id_sets",
    "wildcards",
    "positive",
    "extra",
    "ceiling",
    "guide",
    "symmetric",
    "weight",
    "unnormalised",
)


@st.composite
def cases(draw):
    switches = {name: draw(st.booleans(), label=name) for name in SWITCHES}
    return build(
        seed=draw(st.integers(0, 2**32 - 1)),
        b=draw(st.integers(1, 9)),
        more=draw(st.integers(0, 9)),
        d=draw(st.integers(1, 8)),
        scale=draw(st.sampled_from([1.0, 20.0, 100.0])),
        reduction=draw(st.sampled_from(["mean", "sum", "none"])),
        own=draw(st.sampled_from(["first", "later", "none"])),
        **switches,
    )


def build(
    seed, b=5, more=4, d=4, scale=20.0, reduction="mean", own="first", ids=False, id_sets=False, wildcards=False, positive=False,
    extra=False, ceiling=False, guide=False, symmetric=False, weight=False, unnormalised=False,
):  # fmt: skip
    """Build ``(query, key, arguments, factor)`` in float64; values are rounded to bfloat16 so that every dtype holds them."""
    rng = np.random.default_rng(seed)

    def exact(*shape):
        return torch.tensor(rng.standard_normal(shape)).bfloat16().double()

    n = b + more
    q, k = exact(b, d), exact(n, d)
    if not unnormalised:
        q, k = (torch.nn.functional.normalize(x, dim=1).bfloat16().double() for x in (q, k))
    else:
        reach = scale * float((q @ k.T).abs().max())
        scale = scale * min(1.0, 300 / reach) if reach else scale
    arguments = {"scale": scale, "reduction": reduction}
    arguments["own"] = {"first": 0, "later": int(rng.integers(0, more + 1)), "none": None}[own]
    if ids:
        shape = (int(rng.integers(1, 4)),) if id_sets else ()
        other = (int(rng.integers(1, 4)),) if id_sets else ()
        low = -1 if wildcards else 0
        arguments["query_ids"] = torch.tensor(rng.integers(low, 3 * n, (b, *shape)))
        arguments["key_ids"] = torch.tensor(rng.integers(low, 3 * n, (n, *other)))
    logits = scale * (q @ k.T)
    if positive or arguments["own"] is None:
        arguments["positive"] = torch.tensor(rng.uniform(-1, 1, b)) * scale
    if extra:
        arguments["extra"] = torch.tensor(rng.uniform(-1, 1, (b, 3)) * scale)
        arguments["extra"][torch.tensor(rng.random((b, 3)) < 0.2)] = -torch.inf
    if ceiling:
        arguments["ceiling"] = _between(logits, rng)
    if guide:
        gq, gk = exact(b, 3), exact(n, 3)
        arguments["guide"] = (gq, gk, _between(gq @ gk.T, rng))
    if symmetric and arguments["own"] is not None:
        arguments["symmetric"] = True
    if weight:
        arguments["weight"] = torch.tensor(rng.uniform(0, 2, b))
    factor = np.ones(b) if "weight" not in arguments else arguments["weight"].numpy().copy()
    upstream = rng.uniform(-1, 1, b) if reduction == "none" else np.full(b, 1 / b if reduction == "mean" else 1.0)
    return q, k, arguments, factor * upstream, upstream


def _between(values, rng):
    """Choose a ceiling a row in the middle of a gap of its values: rounding must not move a pair over it."""
    rows = []
    for row in values.sort(1).values:
        gaps = (row[1:] - row[:-1]).tolist()
        wide = [index for index, gap in enumerate(gaps) if gap > 1e-3 * (1 + row.abs().max())]
        rows.append(float(row[-1] + 1) if not wide else float(row[(i := int(rng.choice(wide)))] + gaps[i] / 2))
    return torch.tensor(rows, dtype=torch.float64)


def cast(arguments, dtype):
    """Cast the float vectors of a case; ids stay."""
    out = dict(arguments)
    for name in ("positive", "extra", "ceiling", "weight"):
        if name in out:
            out[name] = out[name].to(dtype)
    if "guide" in out:
        out["guide"] = tuple(t.to(dtype) for t in out["guide"])
    return out


def for_oracle(arguments):
    """Turn a case's arguments into the oracle's plain numbers."""
    out = {name: value for name, value in arguments.items() if name not in ("weight", "reduction")}
    for name in ("query_ids", "key_ids"):
        if name in out:
            out[name] = out[name].reshape(len(out[name]), -1).tolist()
    for name in ("positive", "extra", "ceiling"):
        if name in out:
            out[name] = out[name].double().tolist()
    if "guide" in out:
        out["guide"] = tuple(t.double().numpy() for t in out["guide"])
    return out
