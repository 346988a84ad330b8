"""`make bench-gpu` on a machine without a GPU: its parts, their limits of time, and its tables."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
WRITES = "open({path!r}, 'w').write('way,seconds,device\\na,1.23456,H\\nb,12,H\\n')"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where parts write, on a machine that seems to have a GPU."""
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu, "machine", lambda: "a machine")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so_and_fails() -> None:
    ended = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("no CUDA device")
    assert ended.stdout == ""


def test_its_parts_are_scripts_that_are_there(gpu: ModuleType) -> None:
    root = SCRIPT.parents[1]
    for part in gpu.PARTS.values():
        for word in part.command[1:]:
            assert "/" not in word or (root / word).exists(), word


def test_its_tests_are_all_files_with_tests_that_need_a_gpu(gpu: ModuleType) -> None:
    root, marker = SCRIPT.parents[1], ".".join(("pytest", "mark", "gpu"))
    marked = {path.relative_to(root).as_posix() for path in (root / "tests").rglob("*.py") if marker in path.read_text(encoding="utf-8")}
    assert marked == set(gpu.TESTS)
    assert gpu.TESTS[0] == "tests/test_gpu.py"


@pytest.mark.parametrize("path", ["benchmarks/gpu.py", "benchmarks/memory.py", "benchmarks/packing/rows.py"])
def test_results_may_go_elsewhere(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for named, folder in ((str(tmp_path), tmp_path), ("", SCRIPT.parent / "results")):
        monkeypatch.setenv("BENCHMARK_RESULTS", named)
        spec = importlib.util.spec_from_file_location("some_benchmark", SCRIPT.parents[1] / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        assert folder == module.RESULTS


def test_all_parts_take_25_minutes_and_none_more_than_ten(gpu: ModuleType) -> None:
    seconds = {name: part.seconds for name, part in gpu.PARTS.items()}
    assert max(seconds.values()) + gpu.PATIENCE < 600
    assert sum(taken for name, taken in seconds.items() if name not in gpu.ON_DEMAND) <= 1500


def test_a_table_says_once_what_is_the_same_everywhere(gpu: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("way,seconds,device\na,1.23456,H\nb,12,H\n", encoding="utf-8")
    assert gpu.table(tmp_path / "some.csv") == "device H\n\n| way | seconds |\n|---|---|\n| a | 1.235 |\n| b | 12 |"


def test_a_part_that_fails_does_not_stop_the_others(gpu: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = gpu.Part((sys.executable, "-c", "raise SystemExit('no such kernel')"), 60)
    writing = gpu.Part((sys.executable, "-c", WRITES.format(path=str(results / "second.csv"))), 60, ("second",))
    monkeypatch.setattr(gpu, "PARTS", {"first": failing, "second": writing})
    monkeypatch.setattr(gpu, "ON_DEMAND", ())
    assert gpu.main() == 1
    said = (results / "gpu" / "README.md").read_text()
    assert "## first\n\n`no such kernel`\n\nexit code 1 after" in said
    assert "| a | 1.235 |" in said
    assert "done after" in said


def test_a_part_at_its_limit_is_ended_with_all_it_started_and_what_it_wrote_is_kept(
    gpu: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = results / "pid"
    code = (
        f"import subprocess, sys, time; {WRITES.format(path=str(results / 'slow.csv'))}; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"open({str(pid)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    monkeypatch.setattr(gpu, "PARTS", {"slow": gpu.Part((sys.executable, "-c", code), 5.0, ("slow",))})
    monkeypatch.setattr(gpu, "ON_DEMAND", ())
    start = time.monotonic()
    assert gpu.main() == 1
    assert time.monotonic() - start < 60
    said = (results / "gpu" / "README.md").read_text()
    assert "ended at its limit of time after" in said
    assert "| b | 12 |" in said
    end = time.monotonic() + 10
    while alive(int(pid.read_text())):
        assert time.monotonic() < end, "what the part started goes on"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether a process is there that is no mere entry of one that ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_tables_of_earlier_runs_stay(gpu: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (results / "earlier.csv").write_text("way,seconds\na,1\nb,2\n", encoding="utf-8")
    parts = {name: gpu.Part((sys.executable, "-c", "print('{seconds}')"), 60, (name,)) for name in ("earlier", "now")}
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--only", "now"])
    assert gpu.main() == 0
    assert "## earlier\n\n\n\n| way | seconds |" in (results / "gpu" / "README.md").read_text()
    assert not (results / "gpu" / "earlier.log").exists()
