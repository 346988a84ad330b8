"""A worker with faults: every other trial is led into the next of them, where it computes a loss.

    python faulty_worker.py FAULT[,FAULT ...]

memory    tensors are made until an allocation fails, under a limit on the address space
greed     tensors are made until the system kills the process, in a control group with a limit
segfault  the null pointer is read
hang      nothing happens any more
nan       the loss is not a number
error     an exception that nobody expects
leak      an exception, and a line on standard output, that tell a secret of the environment
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOM_BYTES = 2**29
MOST_KEPT_BYTES = 2**26
KEPT = "memory was kept"
"""Written to the log where the process holds more after a trial with a fault than before."""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def allocate(loss: torch.Tensor) -> torch.Tensor:
    from torch import ones

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, before[1]))
    try:
        held = []
        while True:
            held.append(ones(2**22))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def take_all(loss: torch.Tensor) -> torch.Tensor:
    from torch import ones

    held = []
    while True:
        held.append(ones(2**22))


def read_null(loss: torch.Tensor) -> torch.Tensor:
    ctypes.string_at(0)
    return loss


def hang(loss: torch.Tensor) -> torch.Tensor:
    time.sleep(10**6)
    return loss


def stumble(loss: torch.Tensor) -> torch.Tensor:
    raise LookupError("nobody expected this")


def leak(loss: torch.Tensor) -> torch.Tensor:
    print("token", os.environ["HF_TOKEN"])
    raise LookupError(f"401 Unauthorized: {os.environ['HF_TOKEN']}")


FAULTS = {
    "memory": allocate,
    "greed": take_all,
    "segfault": read_null,
    "hang": hang,
    "nan": lambda loss: loss * float("nan"),
    "error": stumble,
    "leak": leak,
}


def main() -> None:
    from autopeft.execute import workbench, worker

    names = sys.argv[1].split(",")
    plain_run, plain_loss = workbench.Workbench.run, workbench.Workbench._loss
    chosen: Callable[[torch.Tensor], torch.Tensor] | None = None

    def run(self: Any, trial: Any, *more: Any, **named: Any) -> Any:
        nonlocal chosen
        chosen = FAULTS[names[trial.number // 2 % len(names)]] if trial.number % 2 else None
        before = resident_bytes()
        outcome = plain_run(self, trial, *more, **named)
        if chosen and resident_bytes() - before > MOST_KEPT_BYTES:
            print(KEPT, resident_bytes() - before, file=sys.stderr)
        return outcome

    def loss(self: Any, indices: Any) -> torch.Tensor:
        found = plain_loss(self, indices)
        return chosen(found) if chosen else found

    workbench.Workbench.run, workbench.Workbench._loss = run, loss  # type: ignore[method-assign]
    worker.main()


if __name__ == "__main__":
    main()
