"""Every Triton kernel that ships compiles for the GPUs at hand in data centres, without a GPU: no spills, and wgmma on 9.0."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

# dtype, what is stored, row sums, columns too, ids, guide
VARIANTS = [
    ("bfloat16", "exponentials", True, False, 0, False),
    ("bfloat16", "exponentials", True, True, 0, False),
    ("bfloat16", "nothing", True, True, 0, False),
    ("bfloat16", "gradient", False, True, 0, False),
    ("bfloat16", "logits", False, False, 0, False),
    ("bfloat16", "exponentials", True, False, 2, False),
    ("float16", "gradient", False, True, 2, False),
    ("bfloat16", "exponentials", True, True, 2, True),
    ("float32", "exponentials", True, True, 2, True),
]
POINTERS = {"query_ids": "*i64", "key_ids": "*i64", "flag": "*i32"}
INTEGERS = ("first_row", "row_count", "key_count", "own", "width", "guide_width")
SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def compile_variant(capability, variant):
    """Compile one variant in this process, which must not interpret; return what the binary says of itself."""
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from inbatch.kernels.infonce.candidates import Rules
    from inbatch.kernels.infonce.triton.kernel import tile_kernel
    from inbatch.kernels.infonce.triton.launch import constants, tile_of

    dtype, store, row_sums, columns_too, ids, guided = variant
    some = torch.zeros(4, max(1, ids), dtype=torch.int64)
    guide = (torch.zeros(4, 64), torch.zeros(4, 64), torch.zeros(4)) if guided else None
    rules = Rules(0, some if ids else None, some if ids else None, torch.zeros(4), guide)
    tile = tile_of(getattr(torch, dtype), rules, columns_too, capability // 10)
    fixed = constants(getattr(torch, dtype), rules, 768, tile)
    options = {name: fixed.pop(name) for name in ("num_warps", "num_stages")}
    fixed |= {"STORE": store, "ROW_SUMS": row_sums, "COLUMNS_TOO": columns_too, "FLAGGED": store == "exponentials"}
    names = tile_kernel.arg_names
    kept = "fp32" if dtype == "float32" or store == "logits" else "bf16"
    pointers = {**POINTERS, "query": f"*{SHORT[dtype]}", "key": f"*{SHORT[dtype]}", "out": f"*{kept}"}
    signature = {
        name: "constexpr" if name in fixed else "i32" if name in INTEGERS else pointers.get(name, "*fp32")
        for name in names
    }
    aligned = [name for name in names if name not in fixed and name not in ("first_row", "own")]
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(
        tile_kernel, signature, {(names.index(name),): value for name, value in fixed.items()}, attributes
    )
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    numbers = dict(
        part.split(":") for part in usage.split("Function", 1)[1].split() if part.count(":") == 1 and part[-1] != ":"
    )
    return {
        "stack": int(numbers["STACK"]), "local": int(numbers["LOCAL"]), "shared": made.metadata.shared,
        "wgmma": "wgmma" in made.asm["ptx"],
    }  # fmt: skip


@pytest.mark.parametrize(("capability", "shared_limit"), [(80, 163 << 10), (90, 227 << 10), (100, 227 << 10)])
def test_every_kernel_compiles_without_spills(capability, shared_limit, tmp_path):
    # A process of its own: this one may interpret.
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {
        "TRITON_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), environment.get("PYTHONPATH", "")]),
    }
    code = (
        "import json, test_compiled as t; "
        f"print(json.dumps([t.compile_variant({capability}, variant) for variant in t.VARIANTS]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    for variant, found in zip(VARIANTS, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert found["stack"] == found["local"] == 0, (variant, found)
        assert found["shared"] <= shared_limit, (variant, found)
        if capability == 90 and variant[0] != "float32":
            assert found["wgmma"], variant
