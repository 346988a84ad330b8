"""What `benchmarks/packing/operations.py` measures and against which bounds; recordings themselves need a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from autopeft_kernels.low_rank.naive import low_rank

FOLDER = Path(__file__).parents[1] / "benchmarks" / "packing"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield {name: importlib.import_module(name) for name in ("operations", "device_time")}


@pytest.fixture
def operations(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["operations"]


@pytest.fixture
def sizes(operations: ModuleType) -> Any:
    return operations.Sizes(rows=24, width=16, trials=3, rank=2)


@pytest.fixture
def works(operations: ModuleType, sizes: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(operations, "VOCABULARY", 50)
    found = [*operations.of_operations(sizes, CPU, torch.float32), *operations.of_adamw(sizes, CPU)]
    return [*found, *operations.compiled(sizes, CPU, torch.float32)]


def test_bounds_count_every_byte_once(operations: ModuleType) -> None:
    sizes = operations.Sizes(rows=100, width=10, trials=2, rank=3)
    activations, weights = 2 * 100 * 10, 4 * 2 * 3 * 10
    assert operations.bytes_moved("low_rank", "forward", sizes, 2) == 3 * activations + 2 * weights
    assert operations.bytes_moved("low_rank", "backward", sizes, 2) == 3 * activations + 2 * weights + 2 * weights
    assert operations.bytes_moved("outer", "forward", sizes, 2) == activations + 2 * 100 * 3 + weights
    assert operations.flop("low_rank", "backward", sizes) == 8 * 100 * 10 * 3


def test_a_bound_is_the_slower_of_memory_and_products(operations: ModuleType, sizes: Any) -> None:
    moved, products = operations.bytes_moved("cross_entropy", "both", sizes, 2), operations.flop("cross_entropy", "both", sizes)
    assert operations.Rates(copied=1.0, multiplied=1e30).bound("cross_entropy", "both", sizes, 2) == moved
    assert operations.Rates(copied=1e30, multiplied=2.0).bound("cross_entropy", "both", sizes, 2) == products / 2


def test_each_way_has_a_bound_and_what_can_run_here_runs(operations: ModuleType, sizes: Any, works: list[Any]) -> None:
    assert {work.operation for work in works} == {*operations.PARTS, "adamw"}
    for work in works:
        assert operations.bytes_moved(work.operation, work.part, sizes, 4) > 0
        if work.make is None:
            assert work.note in ("not measured", "not installed")
        elif work.way != "compiled":
            call = work.make()
            call()
            call()


def test_batched_products_are_low_rank_updates(operations: ModuleType, sizes: Any) -> None:
    run, given, _ = operations.stacked_low_rank(sizes, CPU, torch.float32)
    base, x, a, b = given
    plain = low_rank(base.flatten(0, 1), x.flatten(0, 1), list(a.mT), list(b.mT), torch.ones(3), sizes.bounds)
    torch.testing.assert_close(run(*given).flatten(0, 1), plain)


def test_a_way_that_fails_keeps_its_row(operations: ModuleType, sizes: Any) -> None:
    def make() -> Any:
        raise RuntimeError("no room\nmore words")

    row = operations.measured(operations.Work("outer", "forward", "naive", make), sizes, operations.Rates(1.0, 1.0), CPU, torch.float32)
    assert row["seconds"] == "failed: RuntimeError: no room"
    assert row["share_of_bound"] == ""


class Cuda(SimpleNamespace):
    """As much of torch.cuda as `seconds` asks for. A call may not wait while the mode says `error`."""

    mode = "default"

    def set_sync_debug_mode(self, mode: str) -> None:
        self.mode = mode


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_what_waits_or_cannot_be_recorded_is_timed_call_by_call(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, waits: bool, recorded: bool
) -> None:
    timer = modules["device_time"]
    stream = SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: None)
    cuda = Cuda(
        Stream=lambda device: stream, current_stream=lambda device: None, stream=nullcontext, synchronize=lambda device: None
    )  # fmt: skip

    def call() -> None:
        if waits and cuda.mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")

    def record(call: Any, stream: Any) -> Any:
        if not recorded:
            raise RuntimeError("operation not permitted when stream is capturing")
        return SimpleNamespace(replay=call)

    def fill() -> None: ...

    monkeypatch.setattr(timer.torch, "cuda", cuda)
    monkeypatch.setattr(timer, "_fill", lambda device: fill)
    monkeypatch.setattr(timer, "_recorded", record)
    monkeypatch.setattr(timer, "_between", lambda call, stream: 1.0 if call is fill else 0.5 if call is given else 3.0)
    given = call
    taken = timer.seconds(lambda: call, torch.device("cuda"))
    assert (taken.seconds, taken.how) == ((2.0 / timer.CALLS, "graph") if recorded and not waits else (0.5, "events"))
    assert taken.spread == 0.0
    assert taken.resolved
    assert cuda.mode == "default"


def test_a_cpu_goes_by_the_clock(modules: dict[str, ModuleType]) -> None:
    taken = modules["device_time"].seconds(lambda: lambda: None, CPU)
    assert taken.how == "clock"
    assert taken.seconds >= 0


def test_what_drowns_in_noise_is_no_number(
    operations: ModuleType, modules: dict[str, ModuleType], sizes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = modules["device_time"].taken([-3e-6, -1e-6, 0.0, 1e-6, 2e-6], "graph")
    assert not found.resolved
    monkeypatch.setattr(operations, "seconds", lambda make, device: found)
    work = operations.Work("outer", "forward", "naive", lambda: lambda: None)
    row = operations.measured(work, sizes, operations.Rates(1.0, 1.0), CPU, torch.float32)
    assert (row["seconds"], row["share_of_bound"], row["measured_by"]) == ("below resolution", "", "graph")
    assert modules["device_time"].taken([4e-6, 5e-6, 6e-6], "graph").resolved
