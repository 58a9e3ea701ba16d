"""The backend of a call: what "auto" takes, what happens where Triton fails, and where memory runs out."""

import logging
import os
from contextlib import nullcontext

import pytest
import torch

from inbatch.kernels import hardest, info_nce, log_sum
from inbatch.kernels.infonce import selection
from inbatch.kernels.infonce.blocking import BlockedProblem
from inbatch.kernels.infonce.chunked import CHUNKED

needs_interpreter = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="runs in the interpreter")


@pytest.fixture(autouse=True)
def forget():
    selection.verdicts.clear()
    yield
    selection.verdicts.clear()


GPU = torch.device("cuda", 0)


def as_if_on_a_gpu(monkeypatch):
    """Let tensors on the CPU be taken for a GPU's by the choice, and by nothing else."""
    monkeypatch.setattr(selection, "on", lambda device: nullcontext())
    real = selection.passes
    monkeypatch.setattr(selection, "passes", lambda device, dtype: real(GPU, dtype))


def pairs(b=5, n=9, d=4):
    return torch.randn(b, d, requires_grad=True), torch.randn(n, d, requires_grad=True)


@pytest.mark.parametrize("call", [info_nce, log_sum])
def test_an_unknown_backend_is_refused(call):
    with pytest.raises(ValueError, match='"auto", "triton", "chunked" or "reference"; got \'cuda\''):
        call(*pairs(), scale=1.0, backend="cuda")


def test_triton_is_refused_where_it_cannot_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    q, k = pairs()
    with pytest.raises(ValueError, match='got cpu. Use backend="auto", or set TRITON_INTERPRET=1'):
        hardest(q, k, backend="triton")
    with pytest.raises(ValueError, match='got torch.float64. Use backend="chunked"'):
        info_nce(q.double(), k.double(), scale=1.0, backend="triton")


def test_the_cpu_takes_plain_torch():
    assert selection.backend_of("auto", torch.zeros(1)) is CHUNKED
    assert selection.chosen_backend("cpu")[0] == "chunked"


@needs_interpreter
def test_a_gpu_on_which_the_trial_passes_takes_triton_and_says_so_once(monkeypatch, caplog):
    from inbatch.kernels.infonce.triton.passes import TILED

    monkeypatch.setattr(selection, "trial", lambda device, dtype: 1e-3)
    as_if_on_a_gpu(monkeypatch)
    with caplog.at_level(logging.INFO, logger="inbatch.kernels.infonce.selection"):
        assert selection.backend_of("auto", torch.zeros(1)) is TILED
        assert selection.backend_of("auto", torch.zeros(1)) is TILED
    assert len(caplog.records) == 1
    assert "Triton" in caplog.text
    assert selection.backend_of("auto", torch.zeros(1, dtype=torch.float64)) is CHUNKED
    assert selection.chosen_backend("cuda")[0] == "triton"


@pytest.mark.parametrize("error", [0.5, float("nan"), RuntimeError("PTX of a later version\nand more")], ids=str)
def test_a_gpu_on_which_triton_fails_takes_plain_torch_with_one_warning(error, monkeypatch, recwarn):
    def trial(device, dtype):
        if isinstance(error, Exception):
            raise error
        return error

    monkeypatch.setattr(selection, "trial", trial)
    as_if_on_a_gpu(monkeypatch)
    for _ in range(3):
        assert selection.backend_of("auto", torch.zeros(1)) is CHUNKED
    assert len(recwarn) == 1
    text = str(recwarn[0].message)
    assert '"chunked"' in text
    assert "\n" not in text


def test_a_gpu_that_is_full_at_the_trial_is_tried_again(monkeypatch, recwarn):
    def trial(device, dtype):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(selection, "trial", trial)
    assert not selection.passes(GPU, torch.bfloat16)
    assert not len(recwarn)
    monkeypatch.setattr(selection, "trial", lambda device, dtype: 0.0)
    assert selection.passes(GPU, torch.bfloat16)


@needs_interpreter
def test_a_call_in_which_triton_fails_is_done_by_plain_torch_with_one_warning(monkeypatch, recwarn):
    from inbatch.kernels.infonce.triton.passes import TILED

    def broken(*args, **more):
        raise RuntimeError("out of resource: shared memory")

    as_if_on_a_gpu(monkeypatch)
    monkeypatch.setattr(selection, "trial", lambda device, dtype: 0.0)
    monkeypatch.setattr(type(TILED), "hardest", broken)
    q, k = pairs()
    for _ in range(3):
        assert torch.equal(hardest(q, k)[1], hardest(q, k, backend="chunked")[1])
    assert ["shared memory" in str(w.message) for w in recwarn] == [True]
    with pytest.raises(RuntimeError, match="shared memory"):
        hardest(q, k, backend="triton")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_trial_without_a_gpu_is_a_failure_and_no_crash():
    with pytest.warns(UserWarning, match="Triton cannot be used"):
        assert not selection.passes(GPU, torch.bfloat16)


@needs_interpreter
@pytest.mark.parametrize("dtype", selection.TRIAL_BOUNDS, ids=str)
def test_the_trial_measures_the_error(dtype):
    error = selection.trial(torch.device("cpu"), dtype)
    assert 0 < error < selection.TRIAL_BOUNDS[dtype] / 3


@needs_interpreter
def test_the_trial_finds_a_wrong_kernel(monkeypatch):
    from inbatch.kernels.infonce.triton.passes import TILED

    right = TILED.fused
    monkeypatch.setattr(TILED, "fused", lambda *args: (*right(*args)[:2], 1.1 * right(*args)[2]))
    assert selection.trial(torch.device("cpu"), torch.bfloat16) > selection.TRIAL_BOUNDS[torch.bfloat16]


def without_memory(times, error, monkeypatch, backend=CHUNKED):
    """Let the first blocks fail, and note the workspaces that were asked for."""
    problem = BlockedProblem
    if backend is not CHUNKED:
        from inbatch.kernels.infonce.triton.problem import TiledProblem as problem
    given, make, of = [], problem.block, problem.of

    def block(self, *args):
        if len(given) <= times:
            raise error
        return make(self, *args)

    def noted(*args):
        given.append(args[-1])
        return of(*args)

    monkeypatch.setattr(problem, "of", staticmethod(noted))
    monkeypatch.setattr(problem, "block", block)
    return given


ERRORS = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


@needs_interpreter
@pytest.mark.parametrize("error", ERRORS, ids=["gpu", "cpu"])
@pytest.mark.parametrize("workspace", [None, 1 << 20])
@pytest.mark.parametrize("backend", ["chunked", "triton"])
def test_memory_that_runs_out_is_asked_for_again_with_a_quarter(error, workspace, backend, monkeypatch):
    from inbatch.kernels.infonce.triton.passes import TILED

    used = TILED if backend == "triton" else CHUNKED
    q, k = pairs()
    truth = torch.autograd.grad(info_nce(q, k, scale=3.0, backend=backend), (q, k))
    given = without_memory(1, error, monkeypatch, used)
    found = torch.autograd.grad(info_nce(q, k, scale=3.0, workspace_bytes=workspace, backend=backend), (q, k))
    assert given == [workspace, (used.default_workspace if workspace is None else workspace) // 4]
    assert all(torch.equal(x, y) for x, y in zip(truth, found))


@pytest.mark.parametrize("call", [info_nce, log_sum, lambda q, k, scale, **more: hardest(q, k, **more)])
def test_memory_that_runs_out_twice_is_an_error_that_names_the_setting(call, monkeypatch):
    given = without_memory(2, ERRORS[0], monkeypatch)
    with pytest.raises(
        torch.OutOfMemoryError,
        match="1048576 bytes of workspace .* then 262144; cpu has neither. Set a smaller workspace_bytes .* First: OutOfMemoryError: CUDA out",
    ):
        call(*pairs(), scale=3.0, workspace_bytes=1 << 20)
    assert len(given) == 2


def test_a_quarter_that_holds_no_row_is_out_of_memory_too(monkeypatch):
    without_memory(1, ERRORS[0], monkeypatch)
    with pytest.raises(torch.OutOfMemoryError, match="Set a smaller workspace_bytes or take fewer rows"):
        info_nce(*pairs(), scale=3.0, workspace_bytes=1000)


@pytest.mark.parametrize("times", [1, 2])
def test_other_errors_pass_through(times, monkeypatch):
    error = [ERRORS[0], RuntimeError("an illegal instruction")][:times][-1]
    broken = RuntimeError("an illegal instruction")
    calls = []

    def of(*args):
        calls.append(args)
        raise error if len(calls) < times else broken

    monkeypatch.setattr(BlockedProblem, "of", staticmethod(of))
    with pytest.raises(RuntimeError, match="illegal instruction"):
        info_nce(*pairs(), scale=3.0)
