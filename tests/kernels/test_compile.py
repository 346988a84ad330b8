"""Every kernel compiles for GPUs that need not be there, within their registers and shared memory. See `kernel_compile.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from autopeft_kernels.dispatch import has_triton

SMALLEST_SHARED_BYTES = 99 * 1024
"""Of one block on GPUs of compute capability 8.6 and 8.9; 8.0 has 163 KiB and 9.0 has 227."""
FEW_STACK_BYTES = 16
"""The assembler keeps a number or two on the stack of some kernels; where registers spill in earnest it is kilobytes."""
KERNELS = {"_add", "_shrink", "_expand", "_outer", "_through", "_move", "_entries", "_losses", "_squares", "_update"}
pytestmark = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")


@cache
def compiled(capability: int, *flags: str) -> list[dict[str, Any]]:
    """Kernels compiled in a process where Triton does not interpret."""
    program = Path(__file__).parents[1] / "kernel_compile.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, str(program), str(capability), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def within_limits(kernels: list[dict[str, Any]]) -> None:
    assert [k for k in kernels if k["stack_bytes"] > FEW_STACK_BYTES] == [], "registers spill"
    assert [k for k in kernels if k["shared_bytes"] > SMALLEST_SHARED_BYTES] == []


def test_low_rank_updates_read_whole_vectors_and_ahead_of_time() -> None:
    kernels = compiled(90, "--quick")
    within_limits(kernels)
    assert {k["kernel"] for k in kernels} == {"_shrink", "_expand", "_outer", "_add"}
    for kernel in (k for k in kernels if k["kernel"] != "_add"):
        assert kernel["products"]
        assert sum(count for width, count in kernel["stores"].items() if not width.startswith("v4")) == 0
        if kernel["kernel"] == "_expand":  # its loop has one step; the rows of its base are what is long to read
            assert kernel["loads"]["v4.b32"] > 1
        else:
            assert set(kernel["copies"]) == {"16"}


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles_within_limits(capability: int) -> None:
    kernels = compiled(capability)
    within_limits(kernels)
    assert {k["kernel"] for k in kernels} == KERNELS
