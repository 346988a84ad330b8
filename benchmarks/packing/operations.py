"""Each kernel against its plain twin, torch.compile of that twin, and the memory bound of the device.

    python benchmarks/packing/operations.py [--device cuda] [--rows 8192] [--width 2048] [--trials 8] [--rank 16]

Writes ../results/kernels-<device>.csv. Forward passes of the operations, and one AdamW step. On a CPU there are no
kernels to measure: the twins are timed alone and say nothing of a GPU.
bound_seconds: bytes that must cross memory, by the bandwidth that a copy of 1 GiB reaches on the same device.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from rows import seconds, write
from torch import Tensor

from autopeft_kernels.adamw import BETAS, BLOCK, EPSILON, Flat
from autopeft_kernels.sparse import Places


def cases(device: torch.device, dtype: torch.dtype, m: int, k: int, g: int, r: int) -> Iterator[tuple[str, tuple[Any, ...], int]]:
    """(operation, arguments, bytes that it must move)."""
    bounds = tuple(m * i // g for i in range(g + 1))

    def some(*shape: int, of: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, device=device).to(of)

    base, x, narrow, size = some(m, k, of=dtype), some(m, k, of=dtype), some(m, r, of=dtype), dtype.itemsize
    a, b = [some(r, k) for _ in range(g)], [some(k, r) for _ in range(g)]
    yield "low_rank", (base, x, a, b, torch.ones(g, device=device), bounds), size * m * 3 * k
    yield "outer", (narrow, x, bounds), size * m * (k + r)
    yield "bottleneck", (base, x, a, b, bounds), size * m * 3 * k
    yield "columns", (base, x, b, [torch.randperm(k, device=device)[:r] for _ in range(g)], bounds), size * m * (r + 2 * k)
    entries = torch.randperm(k * k, device=device)[: 2 * r * k]
    places = Places.of(entries // k, entries % k, k, k)
    yield "sparse", (base, x, [some(len(entries)) for _ in range(g)], [places] * g, bounds), size * m * 3 * k
    vocabulary = 32_000
    targets = torch.randint(vocabulary, (m,), device=device)
    yield "cross_entropy", (x, some(vocabulary, k, of=dtype), targets, bounds), size * (m * k + vocabulary * k)


def adamw(device: torch.device, g: int) -> tuple[tuple[Any, ...], int]:
    """A step of g trials of 1 M parameters each."""
    blocks = 1024 * g
    buffers = [torch.randn(blocks * BLOCK, device=device).abs() for _ in range(4)]
    flat = Flat(*buffers, tuple(1024 * i for i in range(g + 1)), torch.ones(blocks, dtype=torch.bool, device=device))
    ones = torch.ones(g, device=device)
    return (flat, 1e-3 * ones, 0.01 * ones, ones, ones.long(), BLOCK, BETAS, EPSILON), 32 * blocks * BLOCK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    for name, value in (("rows", 8192), ("width", 2048), ("trials", 8), ("rank", 16)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return
    device = torch.device(given.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    source = torch.empty(2**28 if device.type == "cuda" else 2**24, device=device)
    bandwidth = 2 * source.nbytes / seconds(source.clone, device)
    step, moved = adamw(device, given.trials)
    everything = [*cases(device, dtype, given.rows, given.width, given.trials, given.rank), ("adamw", step, moved)]
    rows = []
    for name, arguments, size in everything:
        naive = getattr(importlib.import_module(f"autopeft_kernels.{name}.naive"), name)
        row: dict[str, Any] = {"operation": name, "rows": given.rows, "width": given.width, "trials": given.trials, "rank": given.rank}
        row |= {"type": str(dtype).removeprefix("torch."), "bound_seconds": size / bandwidth}
        row["naive_seconds"] = seconds(lambda run=naive, arguments=arguments: run(*arguments), device)
        row |= on_gpu(name, naive, arguments, size / bandwidth, device)
        rows.append(row)
    write("kernels", rows, device)


def on_gpu(name: str, naive: Callable[..., Any], arguments: tuple[Any, ...], bound: float, device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return dict.fromkeys(("compiled_seconds", "fused_seconds", "share_of_bound"), "not measured")
    fused = getattr(importlib.import_module(f"autopeft_kernels.{name}.fused"), name)
    compiled = torch.compile(naive)
    taken = seconds(lambda: fused(*arguments), device)
    return {
        "compiled_seconds": seconds(lambda: compiled(*arguments), device),
        "fused_seconds": taken,
        "share_of_bound": bound / taken,
    }


if __name__ == "__main__":
    main()
