"""What the fused operations launch, compiled for a GPU that need not be there; run as a program.

    python tests/kernel_compile.py 90 [--quick]

In place of a launch stands Triton's compiler, given the very arguments of the launch, so that the Python around it runs as well, on
the CPU. Prints what became of each kernel, as JSON. Numbers that come out of the operations mean nothing. Fails where an operation
that was called once already does what cannot stand in a CUDA graph.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from kernel_cases import cases, operation, results
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from autopeft_kernels.adamw import BETAS, BLOCK, EPSILON, Flat
from autopeft_kernels.adamw.cases import together
from autopeft_kernels.sparse import Places

Work = tuple[str, Callable[[], object]]
Launch = tuple[str, Any, tuple[int, ...]]
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
TYPES = (torch.bfloat16, torch.float32)
SHAPES = ((8192, 2048, 8, 16), (8192, 2048, 2, 64), (4096, 384, 8, 8), (1024, 384, 3, 1))
"""Rows, width, trials and rank."""


class Device:
    """Stands where Triton's driver for CUDA would."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def launches(capability: int, works: Iterator[Work]) -> Iterator[Launch]:
    """(operation, compiled kernel, grid) of each different kernel."""
    driver.set_active(Device(capability))
    found: dict[str, Launch] = {}
    run, name = JITFunction.run, ""

    def compiled(self: Any, *args: Any, grid: Any, warmup: bool, **more: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **more)
        found.setdefault(kernel.hash, (name, kernel, grid))
        return kernel

    with mock.patch.object(JITFunction, "run", compiled), mock.patch("autopeft_kernels.outer.takes_kernel", return_value=True):
        for name, work in works:  # noqa: B007 - `compiled` reads it
            work()
    return iter(found.values())


def small() -> Iterator[Work]:
    """The cases of the tests, forward and backward."""
    for name, case in cases():
        for dtype in TYPES:
            inputs = dict(case.inputs(dtype, torch.Generator().manual_seed(0)))
            yield name, lambda name=name, case=case, inputs=inputs: results(operation(name, "fused"), case, inputs)
    adamw = importlib.import_module("autopeft_kernels.adamw.fused").adamw
    with mock.patch.object(torch.Tensor, "any", return_value=False):  # gradients are not cleared where nothing runs
        yield "adamw", lambda: together(lambda *given: adamw(*given, BLOCK, BETAS, EPSILON))


def large(m: int, k: int, g: int, r: int, dtype: torch.dtype) -> Iterator[Work]:
    """Operations on shapes of real models, whose weights and activations are all zero."""
    bounds = tuple(m * i // g for i in range(g + 1))
    base, x = (torch.zeros(m, k, dtype=dtype, requires_grad=True) for _ in range(2))
    down, up = [torch.zeros(r, k, requires_grad=True) for _ in range(g)], [torch.zeros(k, r, requires_grad=True) for _ in range(g)]
    places = Places.of(torch.arange(r), torch.arange(r), k, k)
    values = [torch.zeros(r, requires_grad=True) for _ in range(g)]
    given: dict[str, tuple[Any, ...]] = {
        "low_rank": (base, x, down, up, torch.ones(g), bounds),
        "bottleneck": (base, x, down, up, bounds),
        "columns": (base, x, up, [torch.arange(r)] * g, bounds),
        "sparse": (base, x, values, [places] * g, bounds),
    }
    for weight in (*down, *up):
        weight.grad = torch.zeros_like(weight)
    yield "low_rank", lambda: operation("low_rank", "fused")(*given["low_rank"], accumulates=True).sum().backward()
    for name, arguments in given.items():
        yield name, lambda name=name, arguments=arguments: operation(name, "fused")(*arguments).sum().backward()
    few, weight, targets = torch.zeros(8, 16, dtype=dtype), torch.zeros(32_000, 16), torch.zeros(8, dtype=torch.int64)
    yield "cross_entropy", lambda: operation("cross_entropy", "fused")(few, weight, targets, (0, 3, 8))


def step(blocks: int, trials: int) -> Callable[[], object]:
    """A step of grouped AdamW."""
    ones, steps = torch.ones(trials), torch.ones(trials, dtype=torch.int64)
    buffers = [torch.zeros(blocks * trials * BLOCK) for _ in range(4)]
    bounds = tuple(blocks * i for i in range(trials + 1))
    flat = Flat(*buffers, bounds, torch.ones(blocks * trials, dtype=torch.bool))
    adamw = importlib.import_module("autopeft_kernels.adamw.fused").adamw
    return lambda: adamw(flat, ones, ones, ones, steps, BLOCK, BETAS, EPSILON)


class Steady(TorchDispatchMode):
    """Refuses what a CUDA graph cannot take up: values read by the host or copied from it."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := str(function.overloadpacket)) in ("aten._local_scalar_dense", "aten.lift_fresh", "aten.nonzero"):
            raise RuntimeError(f"{name} in a second call with the same arguments")
        return function(*args, **(kwargs or {}))


def steadily(works: Iterable[Work]) -> Iterator[Work]:
    """Each work twice, the second time without reading or copying on the host."""

    def twice(work: Callable[[], object]) -> None:
        work()
        with Steady(), mock.patch.object(torch.Tensor, "tolist", side_effect=RuntimeError("tolist in a second call")):
            work()

    for name, work in works:
        yield name, lambda work=work: twice(work)


def everything(quick: bool) -> Iterator[Work]:
    if quick:
        yield from steadily(each for each in large(*SHAPES[0], torch.bfloat16) if each[0] == "low_rank")
        return
    yield from small()
    for shape in SHAPES:
        for dtype in TYPES:
            yield from large(*shape, dtype)
    yield from steadily(large(*SHAPES[0], torch.float16))
    yield from steadily(("adamw", step(*sizes)) for sizes in ((64, 8), (1500, 2), (6000, 1)))


def described(name: str, kernel: Any, grid: tuple[int, ...]) -> dict[str, Any]:
    """Registers, and bytes on the stack, by what the assembler made; instructions by Triton's PTX."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        said = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    used = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", said)
    assert used is not None, said
    ptx = kernel.asm["ptx"]
    return {
        "operation": name,
        "kernel": kernel.name,
        "grid": grid,
        "registers": int(used[1]),
        "stack_bytes": int(used[2]) + int(used[3]),
        "shared_bytes": kernel.metadata.shared,
        "loads": Counter(re.findall(r"ld\.global\.(?:L1::\w+\.)?([\w.]+)", ptx)),
        "stores": Counter(re.findall(r"st\.global\.([\w.]+)", ptx)),
        "copies": Counter(int(size, 16) for size in re.findall(r"cp\.async\.c\w[\w.]* [^,]*,[^,]*, (\w+)", ptx)),
        "products": Counter(re.findall(r"(wgmma|mma)\.(?:mma_async|sync)", ptx)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capability", type=int)
    parser.add_argument("--quick", action="store_true", help="low-rank updates of one shape alone")
    given = parser.parse_args()
    print(json.dumps([described(*launch) for launch in launches(given.capability, everything(given.quick))]))


if __name__ == "__main__":
    main()
