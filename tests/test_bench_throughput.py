"""What `benchmarks/packing/throughput.py` compares, and in which order; the graphs themselves need a GPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, MPNetConfig, MPNetModel

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


def test_positions_of_mpnet_are_those_of_transformers(modules: dict[str, ModuleType]) -> None:
    torch.manual_seed(0)
    encoder, x = MPNetModel(MPNetConfig(**SMALL)).encoder, torch.randn(2, 200, 32)
    assert torch.equal(modules["ways"]._position_bias(encoder, x), encoder.compute_position_bias(x))


@pytest.mark.parametrize("way", ["sequential", "sequential-casting", "packed", "packed-eager"])
def test_every_way_but_one_keeps_copies_of_frozen_weights(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    ways = modules["ways"]
    setting = ways.Setting("tiny", 64, 16, CPU)
    setting.recipe = ways.Recipe(**{**vars(setting.recipe), "precision": "bf16"})
    ways.WAYS[way](setting, 2)()
    assert bool(setting.casts._modules) is (way != "sequential-casting")


def test_the_first_rows_are_those_that_matter_most(modules: dict[str, ModuleType]) -> None:
    throughput, ways = modules["throughput"], modules["ways"]
    counts = throughput.counts_of([1, 2, 4, 8, 16], [2, 4, 8])
    orders = throughput.plan(["minilm", "mpnet", "llama-1b"], [1024, 256, 4096], [64, 128], list(ways.WAYS), counts)
    assert len(set(orders)) == len(orders)
    stages = list(dict.fromkeys((order.shape, order.tokens) for order in orders if order.length == 64))
    small, large = [("minilm", 1024), ("mpnet", 1024)], [("llama-1b", tokens) for tokens in (1024, 256, 4096)]
    assert stages[:5] == [*small, *large]
    each = sum(len(counts.get(way, (1,))) for way in throughput.FIRST)
    assert {order.way for order in orders[: 2 * each]} == set(throughput.FIRST)
    assert [order.shape for order in orders[: 2 * each]] == ["minilm"] * each + ["mpnet"] * each
    assert {order.way for order in orders[2 * each :][: 3 * 7]} == set(throughput.LARGE_FIRST)
    assert all(order.tokens == 1024 for order in orders[2 * each + 3 * 7 :][:10])
    assert max(order.at_once for order in orders if order.shape == "llama-1b") == throughput.MOST_LARGE
    assert [order.length for order in orders] == sorted(order.length for order in orders)


def test_the_summary_takes_the_best_of_both_sides(modules: dict[str, ModuleType]) -> None:
    def row(way: str, at_once: int, rate: float | str, tokens: int = 64) -> dict[str, Any]:
        about = {"shape": "tiny", "tokens": tokens, "length": 64, "way": way, "at_once": at_once}
        return {**about, "steps_per_second": rate, "problem": "" if rate else "out of memory"}

    rows = [
        row("sequential", 1, 10),
        row("sequential-casting", 1, 8),
        row("graphs", 1, 20),
        row("packed", 4, 30),
        row("packed-apart", 8, 50),
        row("packed", 8, ""),
    ]
    first, second = modules["throughput"].summary([*rows, row("sequential", 1, 5, tokens=256)])
    assert (first["packed"], first["alternative"]) == ("packed-apart 8", "graphs 1")
    assert (first["ratio_to_alternative"], first["ratio_to_sequential"], first["ratio_to_sequential_casting"]) == (2.5, 5.0, 6.25)
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
    monkeypatch.setattr(throughput, "known", lambda device: [row for row in rows if row["problem"] == ""])
    summaries: list[Any] = []
    monkeypatch.setattr(throughput, "write", lambda name, found, device, in_words: summaries.append(found))
    orders = [processes.Order("tiny", 64, 64, way, 1) for way in ("compiled", "graphs", "packed")]
    assert throughput.measure(orders, None, [], "none", float("inf"), CPU) == []
    assert [row["problem"] for row in rows] == ["took more than 150 s", "no memory", ""]
    assert throughput.measure(orders, None, [], "none", 0.0, CPU) == orders
    assert len(rows) == 3
    assert [len(summary) for summary in summaries] == [1]


def test_what_failed_is_measured_again_at_last(modules: dict[str, ModuleType]) -> None:
    throughput, processes = modules["throughput"], modules["processes"]
    orders = [processes.Order("tiny", 64, 64, way, 1) for way in ("sequential", "graphs", "packed", "streams")]

    def row(way: str, problem: str) -> dict[str, str]:
        return {"shape": "tiny", "tokens": "64", "length": "64", "way": way, "at_once": "1", "problem": problem}

    rows = [row("sequential", "no memory"), row("graphs", "no memory"), row("graphs", "")]
    assert [order.way for order in throughput.missing(orders, rows)] == ["packed", "streams", "sequential"]


@pytest.mark.parametrize("asked", [["--missing"], []])
def test_rows_of_another_device_are_kept_where_only_what_is_missing_is_measured(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: list[str]
) -> None:
    throughput, table = modules["throughput"], tmp_path / "throughput-cpu.csv"
    rows = importlib.import_module("rows")
    for module in (rows, throughput):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(throughput, "processes_of", lambda *given, **named: nullcontext((None, [], "none")))
    monkeypatch.setattr(throughput, "ask", lambda *given: {"steps_per_second": 1.0})
    monkeypatch.setattr(throughput.signal, "signal", lambda *given: None)
    monkeypatch.setattr(rows, "device_name", lambda device: "another")
    throughput.measure([modules["processes"].Order("tiny", 64, 64, "packed", 1)], None, [], "none", float("inf"), CPU)
    monkeypatch.setattr(rows, "device_name", throughput.device_name)
    monkeypatch.setattr(
        sys, "argv", ["throughput.py", "--device", "cpu", "--shapes", "tiny", "--tokens", "64", "--ways", "sequential", *asked]
    )
    for _ in range(2):
        throughput.main()
        assert table.read_text().count("another") == len(asked)
        assert table.read_text().count("sequential") == 1
    summary = (tmp_path / "throughput-summary-cpu.csv").read_text()
    assert "another" not in summary
    assert summary.count("tiny") == 1


class Answering:
    """A process that gives these answers."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers, self.ended = list(answers), False

    def start(self) -> None: ...
    def wait(self, until: float) -> None: ...
    def send(self, what: Any) -> None: ...
    def end(self) -> None:
        self.ended = True

    def receive(self, until: float) -> dict[str, Any]:
        return self.answers.pop(0)


def test_after_a_problem_another_process_measures(modules: dict[str, ModuleType]) -> None:
    processes = modules["processes"]
    order, warm = processes.Order("tiny", 64, 64, "packed", 2), {"warm_seconds": 1.0}
    well = {"rates": [1.0, 2.0, 3.0], "peak": None, "recorded": False, "spoilt": False}
    for answers, ended in (
        ([warm, well], False),
        ([warm, {**well, "spoilt": True}], True),
        ([{"problem": "the process ended with code 1"}], True),
        ([{"problem": "no memory", "spoilt": True}], True),
        ([{"problem": "needs CUDA", "spoilt": False}], False),
    ):
        process = Answering(*answers)
        found = processes.ask([process], order, float("inf"))
        assert process.ended is ended
        assert found.get("problem", found.get("steps_per_second")) == answers[0].get("problem", 4.0)


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
