"""No objective over candidates builds a matrix of all pairs: at 16,384 rows a float32 one would be 1 GiB, each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 16_384
MATRIX_MIB = ROWS * ROWS * 4 / 2**20

PROGRAM = """
import json, resource, sys
import torch
from test_ranks import Table, MADE
from inbatch.losses.contrastive.dclr import DCLR
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.views import TokenBatch, Views

torch.set_num_threads(2)
MADE = {**MADE, "noise": lambda: DCLR(Table(9), threshold=0.3, noise_ratio=0.5),
        "weighted": lambda: InfoNCE(0.1, hard_negative_weight=0.5)}

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def run(name, rows):
    objective = MADE[name]().float()
    objective.attach(Table(1).float())
    tokens = Views(*(TokenBatch(torch.arange(rows)[:, None] % 64, torch.ones(rows, 1).long()) for _ in range(2)),
                   (TokenBatch(torch.arange(rows)[:, None] % 64, torch.ones(rows, 1).long()),))
    generator = torch.Generator().manual_seed(0)
    z = [torch.randn(rows, 6, generator=generator).requires_grad_() for _ in range(3)]
    score = torch.rand(rows, generator=generator) if name in ("ranking", "angle", "scored pairs") else None
    objective(Views(z[0], z[1], (z[2],), score), tokens, Table(1).float()).loss.backward()

name = sys.argv[1]
run(name, 64)
before = peak()
run(name, int(sys.argv[2]))
print(json.dumps(peak() - before))
"""


@pytest.mark.parametrize("name", ["hinge", "decayed", "guided", "noise", "ranking", "queue", "weighted"])
def test_memory_stays_below_a_matrix_of_pairs(name):
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "support"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, name, str(ROWS)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The operator's stated workspace is 256 MiB.
    assert json.loads(done.stdout.splitlines()[-1]) < MATRIX_MIB / 2
