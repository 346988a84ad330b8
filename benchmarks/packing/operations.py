"""Each kernel against its plain twin, torch.compile of that twin, other ways to the same, and the bound of the device.

    python benchmarks/packing/operations.py [--device cuda] [--seconds 100] [--rows 8192 --width 2048 --trials 8 --rank 16]

Writes ../results/kernels-<device>.csv, row by row: forward and backward passes of the operations apart, and one AdamW step, each by
`device_time.py`. Without sizes, those of a 1B model and of MiniLM. torch.compile comes last and begins nothing after `--seconds`.
On a CPU there are no kernels to measure: the twins are timed alone and say nothing of a GPU.

bound_seconds: bytes that must cross memory, by the bandwidth that a copy of 1 GiB reaches on the same device, or the products that
must be taken, by the rate of a large one, whichever takes longer. Kernels for one trial that take the frozen weight's product as
well (Unsloth's, LoRAFusion's) cannot stand beside these.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import torch
from device_time import Call, seconds
from rows import add, write
from torch import Tensor
from torch._functorch import config as functorch

from autopeft_kernels.adamw import BETAS, BLOCK, EPSILON, Flat
from autopeft_kernels.sparse import Places

VOCABULARY = 32_000
SECTOR_BYTES = 32
"""What a GPU reads at least."""
AMONG = 32
"""Parameters that a trial's share of the AdamW step is made of."""


@dataclass(frozen=True)
class Sizes:
    """rows: of all trials together. width: of a square module."""

    rows: int
    width: int
    trials: int
    rank: int

    @property
    def bounds(self) -> tuple[int, ...]:
        return tuple(self.rows * i // self.trials for i in range(self.trials + 1))


SIZES = (Sizes(8192, 2048, 8, 16), Sizes(4096, 384, 8, 8))


@dataclass(frozen=True)
class Work:
    """One way through one operation. make: prepares a call; None where there is nothing to call, and `note` says why."""

    operation: str
    part: str
    way: str
    make: Callable[[], Call] | None
    note: str = ""


def bytes_moved(operation: str, part: str, sizes: Sizes, itemsize: int) -> int:
    """Each input read once and each output written once; weights and their gradients of 4 bytes."""
    m, k, g, r = sizes.rows, sizes.width, sizes.trials, sizes.rank
    whole, narrow, weights = itemsize * m * k, itemsize * m * r, 4 * g * r * k
    gathered = m * min(itemsize * k, SECTOR_BYTES * r)
    return {
        ("low_rank", "forward"): 3 * whole + 2 * weights,
        ("low_rank", "backward"): 3 * whole + 4 * weights,
        ("outer", "forward"): whole + narrow + weights,
        ("bottleneck", "forward"): 3 * whole + 2 * weights,
        ("bottleneck", "backward"): 3 * whole + 4 * weights,
        ("columns", "forward"): 2 * whole + gathered + weights,
        ("columns", "backward"): 2 * whole + narrow + 2 * weights,
        ("sparse", "forward"): 3 * whole + 2 * weights,
        ("sparse", "backward"): 3 * whole + 4 * weights,
        ("cross_entropy", "both"): 2 * whole + itemsize * VOCABULARY * k,
        ("adamw", "step"): 32 * g * AMONG * 2 * r * k,
    }[operation, part]


def flop(operation: str, part: str, sizes: Sizes) -> int:
    """Of matrix products that must be taken."""
    m, k, r = sizes.rows, sizes.width, sizes.rank
    narrow = {"low_rank": 4, "bottleneck": 4, "columns": 2, "outer": 2, "sparse": 4}.get(operation, 0) * m * k * r
    return 4 * m * k * VOCABULARY if operation == "cross_entropy" else narrow * (2 if part == "backward" else 1)


def leaf(tensor: Tensor) -> Tensor:
    return tensor.requires_grad_()


def arguments(operation: str, sizes: Sizes, device: torch.device, dtype: torch.dtype) -> tuple[tuple[Any, ...], list[Tensor]]:
    """(arguments, those of them that get gradients)."""
    m, k, g, r, bounds = sizes.rows, sizes.width, sizes.trials, sizes.rank, sizes.bounds

    def some(*shape: int, of: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, device=device).to(of)

    if operation == "outer":
        return (some(m, r, of=dtype), some(m, k, of=dtype), bounds), []
    x = leaf(some(m, k, of=dtype))
    if operation == "cross_entropy":
        targets = torch.randint(VOCABULARY, (m,), device=device)
        return (x, some(VOCABULARY, k, of=dtype), targets, bounds), [x]
    base = leaf(some(m, k, of=dtype))
    down, up = [leaf(some(r, k)) for _ in range(g)], [leaf(some(k, r)) for _ in range(g)]
    if operation == "low_rank":
        return (base, x, down, up, torch.ones(g, device=device), bounds), [base, x, *down, *up]
    if operation == "bottleneck":
        return (base, x, down, up, bounds), [base, x, *down, *up]
    if operation == "columns":
        chosen = [torch.randperm(k, device=device)[:r] for _ in range(g)]
        return (base, x, up, chosen, bounds), [base, x, *up]
    entries = torch.randperm(k * k, device=device)[: min(2 * r, k) * k]
    places, values = Places.of(entries // k, entries % k, k, k), [leaf(some(len(entries))) for _ in range(g)]
    return (base, x, values, [places] * g, bounds), [base, x, *values]


PARTS = {
    "low_rank": ("forward", "backward"),
    "outer": ("forward",),
    "bottleneck": ("forward", "backward"),
    "columns": ("forward", "backward"),
    "sparse": ("forward", "backward"),
    "cross_entropy": ("both",),
}


def prepared(run: Callable[..., Tensor], given: tuple[Any, ...], learns: list[Tensor], part: str) -> Callable[[], Call]:
    """What prepares a call of one part: forward passes keep what backward needs, a backward pass is taken of one forward pass."""

    def forward() -> Call:
        return lambda: run(*given)

    def backward() -> Call:
        out = run(*given)
        direction = torch.ones_like(out)
        return lambda: torch.autograd.grad(out, learns, direction, retain_graph=True)

    def both() -> Call:
        return lambda: torch.autograd.grad(run(*given).sum(), learns)

    return {"forward": forward, "backward": backward, "both": both}[part]


def stacked_low_rank(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> tuple[Callable[..., Tensor], tuple[Any, ...], list[Tensor]]:
    """Low-rank updates of equal ranks and rows by batched products, whose weights stand in one tensor."""
    m, k, g, r = sizes.rows, sizes.width, sizes.trials, sizes.rank
    base, x = (leaf(torch.randn(g, m // g, k, device=device).to(dtype)) for _ in range(2))
    a, b = leaf(torch.randn(g, k, r, device=device)), leaf(torch.randn(g, r, k, device=device))
    scaling = torch.ones(g, 1, 1, device=device, dtype=dtype)

    def run(base: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.baddbmm(base, torch.bmm(x, a.to(x.dtype)) * scaling, b.to(x.dtype))

    return run, (base, x, a, b), [base, x, a, b]


def of_operations(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> Iterator[Work]:
    """All but torch.compile."""
    for name, parts in PARTS.items():
        given, learns = arguments(name, sizes, device, dtype)
        for part in parts:
            for way in ("fused", "naive"):
                if way == "fused" and device.type != "cuda":
                    yield Work(name, part, way, None, "not measured")
                    continue
                run = getattr(importlib.import_module(f"autopeft_kernels.{name}.{way}"), name)
                yield Work(name, part, way, prepared(run, given, learns, part))
            if name == "low_rank":
                yield Work(name, part, "batched products", prepared(*stacked_low_rank(sizes, device, dtype), part))
            if name == "outer":
                u, v = (each.unflatten(0, (sizes.trials, -1)) for each in given[:2])
                yield Work(name, part, "batched products", prepared(lambda u, v: torch.bmm(u.mT, v).float(), (u, v), [], part))
        if name == "cross_entropy":
            yield liger(given, learns)


def liger(given: tuple[Any, ...], learns: list[Tensor]) -> Work:
    """Liger Kernel's linear cross-entropy, of all rows as one trial."""
    if importlib.util.find_spec("liger_kernel") is None:
        return Work("cross_entropy", "both", "liger", None, "not installed")
    loss = importlib.import_module("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss()
    x, weight, targets, _ = given
    return Work("cross_entropy", "both", "liger", prepared(lambda: loss(weight, x, targets), (), learns, "both"))


def compiled(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> Iterator[Work]:
    """torch.compile of the twins."""
    for name, parts in PARTS.items():
        given, learns = arguments(name, sizes, device, dtype)
        run = torch.compile(getattr(importlib.import_module(f"autopeft_kernels.{name}.naive"), name), dynamic=False)
        for part in parts:
            yield Work(name, part, "compiled", prepared(run, given, learns, part))


def of_adamw(sizes: Sizes, device: torch.device) -> Iterator[Work]:
    """A step of all trials: norms, clipping, update, and gradients cleared for the next. Trials of `AMONG` matrices."""
    g, each = sizes.trials, 2 * sizes.rank * sizes.width
    blocks = AMONG * -(-each // BLOCK)
    bounds = tuple(blocks * i for i in range(g + 1))

    def grouped(way: str) -> Callable[[], Call]:
        def make() -> Call:
            buffers = [torch.randn(g * blocks * BLOCK, device=device).abs() for _ in range(4)]
            flat = Flat(*buffers, bounds, torch.ones(g * blocks, dtype=torch.bool, device=device))
            ones = torch.ones(g, device=device)
            run = importlib.import_module(f"autopeft_kernels.adamw.{way}").adamw
            given = 1e-3 * ones, 0.01 * ones, ones, ones.long()  # rates, decay, clip, steps
            return lambda: run(flat, *given, BLOCK, BETAS, EPSILON)

        return make

    def torchs(**how: bool) -> Callable[[], Call]:
        def make() -> Call:
            trials = [[torch.randn(2 * sizes.rank, sizes.width, device=device, requires_grad=True) for _ in range(AMONG)] for _ in range(g)]
            for parameter in (p for trial in trials for p in trial):
                parameter.grad = torch.randn_like(parameter)
            recorded = device.type == "cuda"
            groups = [{"params": trial, "lr": torch.tensor(1e-3, device=device) if recorded else 1e-3} for trial in trials]
            optimizer = torch.optim.AdamW(groups, capturable=recorded, **how)

            def step() -> None:
                for trial in trials:
                    torch.nn.utils.clip_grad_norm_(trial, 1.0, foreach=True)
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)

            return step

        return make

    yield Work("adamw", "step", "fused", *((grouped("fused"),) if device.type == "cuda" else (None, "not measured")))
    yield Work("adamw", "step", "naive", grouped("naive"))
    yield Work("adamw", "step", "torch fused", torchs(fused=True))
    yield Work("adamw", "step", "torch foreach", torchs(foreach=True))


@dataclass(frozen=True)
class Rates:
    """What the device reaches: bytes a second of a copy, FLOP a second of a large product."""

    copied: float
    multiplied: float

    @classmethod
    def of(cls, device: torch.device, dtype: torch.dtype) -> Rates:
        large = device.type == "cuda"
        source, side = torch.empty(2**28 if large else 2**24, device=device), 8192 if large else 1024
        target, a = torch.empty_like(source), torch.randn(side, side, device=device).to(dtype)
        copy = seconds(lambda: lambda: target.copy_(source), device).seconds
        product = seconds(lambda: lambda: a @ a, device).seconds
        return cls(2 * source.nbytes / copy, 2 * side**3 / product)

    def bound(self, operation: str, part: str, sizes: Sizes, itemsize: int) -> float:
        return max(bytes_moved(operation, part, sizes, itemsize) / self.copied, flop(operation, part, sizes) / self.multiplied)


def measured(work: Work, sizes: Sizes, rates: Rates, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The row of one way."""
    bound = rates.bound(work.operation, work.part, sizes, dtype.itemsize)
    row = {"operation": work.operation, "part": work.part, **asdict(sizes), "type": str(dtype).removeprefix("torch."), "way": work.way}
    taken: float | str = work.note
    how, spread, share = "", "", ""
    if work.make is not None:
        try:
            found = seconds(work.make, device)
            taken, how = found.seconds if found.resolved else "below resolution", found.how
            spread, share = f"{found.spread:.3g}", f"{bound / found.seconds:.3f}" if found.resolved else ""
        except Exception as error:  # a way that fails must not keep the others from being measured
            taken = f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:150]
    return {**row, "seconds": taken, "spread_seconds": spread, "measured_by": how, "bound_seconds": bound, "share_of_bound": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=100.0, help="after this long nothing more is compiled")
    for name in ("rows", "width", "trials", "rank"):
        parser.add_argument(f"--{name}", type=int)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return
    start, device = time.monotonic(), torch.device(given.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    own = {name: value for name in ("rows", "width", "trials", "rank") if (value := getattr(given, name)) is not None}
    shapes = SIZES if device.type == "cuda" else (Sizes(256, 64, 4, 4),)
    if own:
        shapes = (replace(shapes[0], **own),)
    functorch.donated_buffer = False  # a compiled backward pass is taken more than once
    rates = Rates.of(device, dtype)
    put = write
    for sizes in shapes:
        for work in chain(of_operations(sizes, device, dtype), of_adamw(sizes, device)):
            put("kernels", [measured(work, sizes, rates, device, dtype)], device)
            put = add
    for sizes in shapes:
        for work in compiled(sizes, device, dtype):
            if device.type != "cuda":
                work = replace(work, make=None, note="not measured")
            elif time.monotonic() - start > given.seconds:
                work = replace(work, make=None, note="out of time")
            add("kernels", [measured(work, sizes, rates, device, dtype)], device)


if __name__ == "__main__":
    main()
