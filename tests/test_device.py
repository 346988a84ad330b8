"""How a device is shared out, and which attention trains fastest on it."""

from __future__ import annotations

import pytest
import torch

from autopeft import device
from autopeft.device import MOST_WORKERS, Slots, find_attention, find_slots


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10)
    monkeypatch.setattr(device, "free_memory_bytes", lambda: 24 * 10**9)
    return monkeypatch


def test_a_cpu_is_shared_by_workers_of_equal_threads(cores: pytest.MonkeyPatch) -> None:
    assert find_slots("auto", "cpu", 22_700_000) == Slots(MOST_WORKERS, 10 // MOST_WORKERS)
    assert find_slots(3, "cpu", 22_700_000) == Slots(3, 3)
    assert find_slots(20, "cpu", 22_700_000) == Slots(20, 1)


def test_a_large_base_model_gets_as_many_workers_as_memory_holds(cores: pytest.MonkeyPatch) -> None:
    assert find_slots("auto", "cpu", 270_000_000) == Slots(3, 3)  # 24 GB at 1.5 + 6.5 GB each
    assert find_slots("auto", "cpu", 8_000_000_000) == Slots(1, 10)


def test_a_gpu_runs_one_trial_unless_told_otherwise() -> None:
    assert find_slots("auto", "cuda:0", 22_700_000) == Slots(1, 0)
    assert find_slots(2, "cuda:1", 22_700_000) == Slots(2, 0)


def test_attention_is_plain_only_where_fused_attention_is_slow() -> None:
    assert find_attention("cpu", "bf16", 64) == "eager"
    assert find_attention("cpu", "bf16", 512) == find_attention("cpu", "fp32", 64) == find_attention("cuda", "bf16", 64) == "sdpa"
