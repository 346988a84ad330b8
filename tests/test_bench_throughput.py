"""What `benchmarks/packing/throughput.py` compares, and in which order; the graphs themselves need a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, MPNetConfig

FOLDER = Path(__file__).parents[1] / "benchmarks" / "packing"
CPU = torch.device("cpu")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 1000}


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        found = {name: importlib.import_module(name) for name in ("ways", "processes", "throughput")}
        patch.setitem(found["ways"].SHAPES, "mpnet", lambda: MPNetConfig(**SMALL))
        patch.setitem(found["ways"].SHAPES, "llama-1b", lambda: LlamaConfig(**SMALL, pad_token_id=0, use_cache=False))
        yield found


@pytest.mark.parametrize("shape", ["tiny", "mpnet", "llama-1b"])
def test_the_step_that_is_captured_trains_as_the_plain_loop_does(modules: dict[str, ModuleType], shape: str) -> None:
    ways = modules["ways"]
    torch.manual_seed(0)
    setting = ways.Setting(shape, 64, 16, CPU)
    setting.recipe = ways.Recipe(**{**vars(setting.recipe), "precision": "fp32", "clip_norm": 0.1})  # low enough to clip
    torch.manual_seed(1)
    plain = ways.sequential(setting, 1)
    torch.manual_seed(1)
    with ways.without_masks(setting):
        whole = ways.WholeStep(setting)
        losses = [float(whole()) for _ in range(5)]
    assert losses == pytest.approx([plain() for _ in range(5)], rel=1e-4)
    assert losses[-1] < losses[0]


def test_the_first_rows_are_those_of_small_models_in_every_way(modules: dict[str, ModuleType]) -> None:
    throughput, ways = modules["throughput"], modules["ways"]
    counts = throughput.counts_of([1, 2, 4, 8, 16], [2, 4, 8])
    orders = throughput.plan(["minilm", "mpnet", "llama-1b"], [1024, 256, 4096], [64, 128], list(ways.WAYS), counts)
    assert len(set(orders)) == len(orders)
    each = sum(len(counts.get(way, (1,))) for way in ways.WAYS)
    first = orders[: 2 * each]
    assert {(order.shape, order.tokens, order.length) for order in first} == {("minilm", 1024, 64), ("mpnet", 1024, 64)}
    assert {order.way for order in first} == set(ways.WAYS)
    assert max(order.at_once for order in orders if order.shape == "llama-1b") == throughput.MOST_LARGE
    assert [order.length for order in orders] == sorted(order.length for order in orders)


def test_the_summary_takes_the_best_of_both_sides(modules: dict[str, ModuleType]) -> None:
    def row(way: str, at_once: int, rate: float | str, tokens: int = 64) -> dict[str, Any]:
        about = {"shape": "tiny", "tokens": tokens, "length": 64, "way": way, "at_once": at_once}
        return {**about, "steps_per_second": rate, "problem": "" if rate else "out of memory"}

    rows = [row("sequential", 1, 10), row("graphs", 1, 20), row("packed", 4, 30), row("packed-apart", 8, 50), row("packed", 8, "")]
    first, second = modules["throughput"].summary([*rows, row("sequential", 1, 5, tokens=256)])
    assert (first["packed"], first["alternative"]) == ("packed-apart 8", "graphs 1")
    assert (first["ratio_to_alternative"], first["ratio_to_sequential"]) == (2.5, 5.0)
    assert (second["packed"], second["ratio_to_alternative"]) == ("not measured", "")


def test_what_fails_or_takes_too_long_does_not_end_the_others(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    throughput, processes = modules["throughput"], modules["processes"]
    rows: list[dict[str, Any]] = []

    def ask(asked: Any, order: Any, until: float) -> dict[str, Any]:
        if order.way == "compiled":
            raise processes.OutOfTime
        return {"problem": "no memory"} if order.way == "graphs" else {"steps_per_second": 1.0}

    monkeypatch.setattr(throughput, "ask", ask)
    monkeypatch.setattr(throughput, "add", lambda name, found, device: rows.extend(found))
    orders = [processes.Order("tiny", 64, 64, way, 1) for way in ("compiled", "graphs", "packed")]
    assert throughput.measure(orders, None, [], "none", float("inf"), CPU) == []
    assert [row["problem"] for row in rows] == ["took more than 150 s", "no memory", ""]
    assert throughput.measure(orders, None, [], "none", 0.0, CPU) == orders
    assert len(rows) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("shape", ["tiny", "mpnet", "llama-1b"])
def test_a_replayed_step_trains_as_the_plain_loop_does(modules: dict[str, ModuleType], shape: str) -> None:
    ways = modules["ways"]
    setting = ways.Setting(shape, 64, 16, torch.device("cuda"))
    setting.recipe = ways.Recipe(**{**vars(setting.recipe), "precision": "fp32"})
    torch.manual_seed(1)
    plain = ways.sequential(setting, 1)
    torch.manual_seed(1)
    with ways.without_masks(setting):
        captured = ways.Captured(ways.WholeStep(setting))
        losses = []
        for _ in range(5):
            captured.replay()
            losses.append(float(captured.loss))
    assert losses == pytest.approx([plain() for _ in range(5 + ways.SIDE_STEPS)][ways.SIDE_STEPS :], rel=1e-3)
