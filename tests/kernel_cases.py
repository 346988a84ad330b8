"""How far an operation is from its reference; run as a program, of all kernels in Triton's interpreter."""

from __future__ import annotations

import importlib
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from autopeft_kernels.adamw import BETAS, BLOCK, EPSILON
from autopeft_kernels.adamw.cases import apart, together
from autopeft_kernels.cases import TOLERANCE, Case
from autopeft_kernels.sparse import Places

OPERATIONS = ("low_rank", "outer", "bottleneck", "columns", "sparse", "cross_entropy")
TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TOLERANCE}


def cases() -> Iterator[tuple[str, Case]]:
    for operation in OPERATIONS:
        for case in importlib.import_module(f"autopeft_kernels.{operation}.cases").CASES:
            yield operation, case


def operation(name: str, way: str) -> Callable[..., Tensor]:
    """way: `naive` or `fused`."""
    return getattr(importlib.import_module(f"autopeft_kernels.{name}.{way}"), name)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Places):
        return Places(change(value.rows), change(value.columns), change(value.flat))
    return [_each(item, change) for item in value] if isinstance(value, list) else value


def learning(case: Case, inputs: dict[str, Any]) -> tuple[dict[str, Any], list[Tensor]]:
    """Inputs of which copies get gradients where the case says so, and these copies."""
    leaves: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().clone().requires_grad_())
        return leaves[-1]

    return {name: _each(value, leaf) if name in case.learns else value for name, value in inputs.items()}, leaves


def results(run: Callable[..., Tensor], case: Case, inputs: dict[str, Any]) -> list[Tensor]:
    """Output, and the gradients of a fixed mixture of it."""
    given, leaves = learning(case, inputs)
    out = run(**given)
    if leaves:
        mixture = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        (out * mixture.to(out)).sum().backward()
    return [out, *(leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves)]


def inputs_of(case: Case, dtype: torch.dtype, device: str = "cpu") -> dict[str, Any]:
    inputs = case.inputs(dtype, torch.Generator().manual_seed(zlib.crc32(case.name.encode())))
    return {name: _each(value, lambda t: t.to(device)) for name, value in inputs.items()}


def difference(run: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str = "cpu") -> float:
    """Largest difference from the float64 reference, of output and gradients, as a share of each one's largest value."""
    inputs = inputs_of(case, dtype)
    exact = {name: _each(value, lambda t: t.double() if t.is_floating_point() else t) for name, value in inputs.items()}
    there = inputs_of(case, dtype, device)
    pairs = zip(results(run, case, there), results(case.reference, case, exact), strict=True)
    return max(_apart(found.detach().cpu().double(), right.detach()) for found, right in pairs)


def _apart(found: Tensor, right: Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max().clamp(min=1e-3))


def adamw_difference(way: str, device: str = "cpu") -> float:
    """Largest difference of parameters and norms from torch's own optimiser, relative to the larger of the value and 1."""
    module = importlib.import_module(f"autopeft_kernels.adamw.{way}")
    (found, norms), (right, exact) = together(lambda *given: module.adamw(*given, BLOCK, BETAS, EPSILON), device), apart()
    pairs = [(f.cpu(), r.detach()) for mine, theirs in zip(found, right, strict=True) for f, r in zip(mine, theirs, strict=True)]
    pairs.append((torch.tensor(norms), torch.tensor(exact)))
    assert all(torch.equal(f.isnan(), r.isnan()) for f, r in pairs)
    return max(float(((f - r).nan_to_num().abs() / r.nan_to_num().abs().clamp(min=1)).max()) for f, r in pairs)


def accumulated_difference(device: str = "cpu") -> float:
    """Largest difference of gradients that the low-rank kernel adds to those that are there from those that autograd adds."""
    largest = 0.0
    for case in importlib.import_module("autopeft_kernels.low_rank.cases").CASES:
        found = []
        for accumulates in (True, False):
            inputs = dict(case.inputs(torch.float32, torch.Generator().manual_seed(0)))
            given = {name: _each(value, lambda t: t.to(device)) for name, value in inputs.items()}
            weights = [*given["a"], *given["b"]]
            for weight in weights:
                weight.requires_grad_(True).grad = torch.full_like(weight, 0.5)
            operation("low_rank", "fused")(**given, accumulates=accumulates).square().sum().backward()
            found.append([weight.grad for weight in weights])
        largest = max([largest, *(_apart(mine.cpu(), theirs.cpu()) for mine, theirs in zip(*found, strict=True))])
    return largest


def main() -> None:
    found = {
        f"{name}, {case.name}, {dtype}": difference(operation(name, "fused"), case, TYPES[dtype])
        for name, case in cases()
        for dtype in sys.argv[1:]
    }
    print(json.dumps(found | {"adamw": adamw_difference("fused"), "accumulated": accumulated_difference()}))


if __name__ == "__main__":
    main()
