"""The device trials run on, the precision that it does well, and what to record of the machine."""

from __future__ import annotations

import contextlib
import platform
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from autopeft.errors import SpecError

RECORDED_PACKAGES = ("autopeft", "torch", "transformers", "peft", "optuna", "botorch", "datasets", "scikit-learn", "plotly", "numpy")


def find_device(wanted: str) -> torch.device:
    """The device called `wanted`; `auto` is the first CUDA device where there is one, else the CPU."""
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise SpecError(f"device must be auto, cpu, cuda or cuda:N, it is {wanted!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise SpecError(f"device must be auto, cpu, cuda or cuda:N, it is {wanted!r}")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise SpecError(f"device {wanted!r} is not there; this machine has {count} CUDA devices")
        return torch.device("cuda", device.index or 0)
    return device


def find_devices(wanted: str) -> list[str]:
    """All devices to run trials on: every CUDA device for `auto` and `cuda`, else the one named."""
    if wanted in ("auto", "cuda") and torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [str(find_device(wanted))]


def does_bf16_well(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are native: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    info = Path("/proc/cpuinfo")
    flags = info.read_text(errors="replace") if info.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def find_precision(wanted: str, device: torch.device) -> str:
    """`fp32` or `bf16` (autocast over fp32 weights)."""
    if wanted != "auto":
        return wanted
    return "bf16" if does_bf16_well(device) else "fp32"


def autocast(device_type: str, precision: str) -> AbstractContextManager[Any]:
    """The context forward passes run in."""
    if precision == "bf16":
        return torch.autocast(device_type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} ({torch.get_num_threads()} threads)"


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and device, as recorded in `environment.json`."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: metadata.version(name) for name in RECORDED_PACKAGES},
        "device": str(device),
        "device_name": device_name(device),
    }


def free_memory_bytes(device: torch.device) -> int | None:
    """Free memory of the device, None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
