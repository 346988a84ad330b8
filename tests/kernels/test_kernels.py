"""Every operation against its reference: the plain twin here, the Triton kernels in Triton's interpreter and on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from kernel_cases import OPERATIONS, TYPES, accumulated_difference, adamw_difference, cases, difference, inputs_of, learning, operation

import autopeft_kernels
from autopeft_kernels.cases import TOLERANCE, Case
from autopeft_kernels.dispatch import has_triton
from autopeft_kernels.low_rank import low_rank
from autopeft_kernels.segments import addresses, check_bounds, tile_table

ADAMW_TOLERANCE = 1e-6
EVERY = [(name, case, dtype) for name, case in cases() for dtype in TYPES]
NAMES = [f"{name}, {case.name}, {dtype}" for name, case, dtype in EVERY]
needs_triton = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")


@cache
def interpreted(*types: str) -> dict[str, float]:
    """Differences of all kernels in Triton's interpreter, which has to be chosen before Triton is imported."""
    program = Path(__file__).parents[1] / "kernel_cases.py"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(program), *types], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_operation_has_its_cases() -> None:
    folder = Path(autopeft_kernels.__file__).parent
    assert {path.parent.name for path in folder.glob("*/naive.py")} == {*OPERATIONS, "adamw"}
    assert {name for name, _ in cases()} == {*OPERATIONS}


@pytest.mark.parametrize(("name", "case", "dtype"), EVERY, ids=NAMES)
def test_plain_twins_are_what_is_meant(name: str, case: Case, dtype: str) -> None:
    assert difference(operation(name, "naive"), case, TYPES[dtype]) < TOLERANCE[TYPES[dtype]]


@needs_triton
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("float32")])
def test_kernels_in_the_interpreter(name: str) -> None:
    assert interpreted("float32")[name] < TOLERANCE[torch.float32]


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("bfloat16")])
def test_kernels_in_the_interpreter_in_half_precision(name: str) -> None:
    assert interpreted("bfloat16")[name] < TOLERANCE[torch.bfloat16]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "case", "dtype"), EVERY, ids=NAMES)
def test_kernels_on_a_gpu(name: str, case: Case, dtype: str) -> None:
    assert difference(operation(name, "fused"), case, TYPES[dtype], "cuda") < TOLERANCE[TYPES[dtype]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "case"), list(cases()), ids=[f"{name}, {case.name}" for name, case in cases()])
def test_kernels_can_be_recorded_after_one_call(name: str, case: Case) -> None:
    given, leaves = learning(case, inputs_of(case, torch.bfloat16, "cuda"))
    run = operation(name, "fused")

    def work() -> list[torch.Tensor]:
        out = run(**given)
        return [out, *torch.autograd.grad(out.float().square().sum(), leaves)] if leaves else [out]

    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        right = [tensor.clone() for tensor in work()]
    with torch.cuda.graph(graph, stream=stream):
        found = work()
    for _ in range(2):
        for tensor in found:
            tensor.detach().fill_(torch.nan)
        graph.replay()
        torch.cuda.synchronize()
        torch.testing.assert_close(found, right)


def test_grouped_adamw_is_that_of_torch() -> None:
    assert adamw_difference("naive") < ADAMW_TOLERANCE


@needs_triton
def test_grouped_adamw_kernel_in_the_interpreter() -> None:
    assert interpreted("float32")["adamw"] < ADAMW_TOLERANCE


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_grouped_adamw_kernel_on_a_gpu() -> None:
    assert adamw_difference("fused", "cuda") < ADAMW_TOLERANCE


@needs_triton
def test_gradients_that_kernels_add_are_those_that_autograd_adds() -> None:
    assert interpreted("float32")["accumulated"] < TOLERANCE[torch.float32]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gradients_that_kernels_add_on_a_gpu() -> None:
    assert accumulated_difference("cuda") < TOLERANCE[torch.float32]


def test_without_a_gpu_the_plain_twin_runs() -> None:
    x, a, b = torch.ones(2, 3), [torch.ones(1, 3)], [torch.ones(4, 1)]
    assert torch.equal(low_rank(torch.zeros(2, 4), x, a, b, torch.tensor([2.0]), (0, 2)), torch.full((2, 4), 6.0))


def test_tiles_never_hold_rows_of_two_trials() -> None:
    table = tile_table((0, 5, 5, 6), 4, torch.device("cpu"))
    assert table.tolist() == [[0, 0, 4], [0, 4, 5], [2, 5, 6]]


@pytest.mark.parametrize("bounds", [(0, 4), (0, 3, 2, 4), (1, 2, 4), (0, 2, 3)])
def test_bounds_that_do_not_part_the_rows_are_refused(bounds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="from 0 to 4"):
        check_bounds(bounds, 4, 2)


def test_weights_must_be_contiguous() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        addresses([torch.ones(2, 3).T])
