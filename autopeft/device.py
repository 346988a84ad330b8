"""The device trials run on, the precision that it does well, and what to record of the machine."""

from __future__ import annotations

import contextlib
import os
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from autopeft.errors import SpecError

RECORDED_PACKAGES = ("autopeft", "torch", "transformers", "peft", "optuna", "botorch", "datasets", "scikit-learn", "plotly", "numpy")
MOST_WORKERS = 4
"""On a CPU; more at once would leave the sampler little to learn from between them."""
WORKER_BYTES, BYTES_PER_PARAMETER = 1_500_000_000, 24
"""Memory of a worker by itself, and for each weight of the base model: the weight and room for what training adds."""
PLAIN_ATTENTION_LENGTH = 128
"""Tokens up to which attention in plain operators is preferred in bf16 on a CPU."""


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


def find_attention(device_type: str, precision: str, max_length: int) -> str:
    """Name of transformers' attention implementation: `sdpa`, or `eager` where that is faster.

    torch 2.13 trains through its fused attention in bf16 on a CPU several times slower than through plain
    operators: 28 against 3 ms forward and backward for 32 sentences of 12 tokens and 12 heads of 32, 61
    against 19 ms at 64 tokens (one thread of a Xeon with AMX). In fp32 it is the other way round. Plain
    operators keep all attention weights, so that long examples would need too much memory.
    """
    plain = device_type == "cpu" and precision == "bf16" and max_length <= PLAIN_ATTENTION_LENGTH
    return "eager" if plain else "sdpa"


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    threads = torch.get_num_threads()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} ({threads} thread{'s' if threads > 1 else ''})"


def _version(package: str) -> str | None:
    """None where it was not installed, as in a checkout on a path."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and device, as recorded in `environment.json`."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: version for name in RECORDED_PACKAGES if (version := _version(name))},
        "device": str(device),
        "device_name": device_name(device),
    }


def free_memory_bytes() -> int:
    """Main memory that can still be used: what the system has free, or less where a container limits it."""
    info = Path("/proc/meminfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()).isdigit():
        free = min(free, max(0, int(text) - int(used.read_text())))
    return free


def free_bytes(device: torch.device) -> int:
    """Memory of a device that can still be used."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free_memory_bytes()


@dataclass(frozen=True)
class Slots:
    """Trials at once on one device. threads: of each worker, at most; 0 where that is not the device's business."""

    count: int
    threads: int


def find_slots(wanted: int | Literal["auto"], device: str, base_parameters: int) -> Slots:
    """How a device is shared out. One trial of a small model cannot keep several cores busy, and two
    workers of one thread each are nearly twice as fast as one worker of two threads; so `auto` is up to
    `MOST_WORKERS` on a CPU, as far as its memory goes, and one on a GPU.

    base_parameters: of the base model, which each worker loads.
    """
    if device != "cpu":
        return Slots(1 if wanted == "auto" else wanted, 0)
    cores = torch.get_num_threads()
    fitting = free_memory_bytes() // (WORKER_BYTES + BYTES_PER_PARAMETER * base_parameters)
    count = max(1, min(MOST_WORKERS, cores, fitting)) if wanted == "auto" else wanted
    return Slots(count, max(1, cores // count))
