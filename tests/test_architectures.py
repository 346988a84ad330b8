"""Three-trial searches on small random models of every architecture, and every kind of task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from small import Quiet
from tiny_base import save_base, splits

from autopeft.coordinator import search
from autopeft.record import StudyRecord
from autopeft.spec import StudySpec
from autopeft.trial import TrialState

pytestmark = pytest.mark.slow


def run(folder: Path, architecture: str, kind: str, **settings: Any) -> StudyRecord:
    """A search of three trials after head-only, without baselines, in `folder`."""
    save_base(folder / "base", architecture, "causal_lm" if architecture in tiny.DECODERS else "none")
    rows = splits(kind, rows=24).train
    if settings.pop("pairs", False):
        rows = tuple({**row, "text_pair": "c d"} for row in rows)
    for name in ("train", "validation"):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    spec = StudySpec.model_validate(
        {
            "name": "tiny",
            "model": {"base": "base"},
            "task": {"kind": kind},
            "data": {"train": "train.jsonl", "validation": "validation.jsonl", "max_length": 16},
            "fidelity": {"steps": 4},
            "training": {"batch_size": 4},
            "baselines": False,
            "seeds": {"replicates": 0},
            "budget": "3trials",
            "device": "cpu",
            **settings,
        }
    )
    return search(spec, folder, folder / "study", Quiet())


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_search_completes_on(architecture: str, tmp_path: Path) -> None:
    record = run(tmp_path, architecture, "causal_lm" if architecture in tiny.DECODERS else "classification")
    assert len(record.trials) == 3
    assert all(t.state in (TrialState.COMPLETE, TrialState.EARLY_STOPPED) for t in record.trials), [t.reason for t in record.trials]


@pytest.mark.parametrize(
    ("architecture", "kind", "settings"),
    [
        ("bert", "regression", {}),
        ("llama", "regression", {}),
        ("roberta", "classification", {"pairs": True}),
        ("llama", "classification", {"pairs": True}),
        ("gpt2", "causal_lm", {"task": {"kind": "causal_lm", "metric": "exact_match", "max_new_tokens": 4, "answer_pattern": "# (.+)"}}),
    ],
)
def test_a_search_completes_on_other_tasks(architecture: str, kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    record = run(tmp_path, architecture, kind, **settings)
    assert [t.state for t in record.trials] == [TrialState.COMPLETE] * 3, [t.reason for t in record.trials]
