"""Whether an operation runs its Triton kernels or its plain PyTorch twin."""

from __future__ import annotations

import importlib.util
import os
from functools import cache

from torch import Tensor


@cache
def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, which works on any device and is for tests alone."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def takes_kernel(tensor: Tensor) -> bool:
    """Whether kernels can work on `tensor`: it is on a CUDA device, or Triton interprets, and Triton is there."""
    return has_triton() and (tensor.is_cuda or interpreted())
