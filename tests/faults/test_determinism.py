"""A seeded study that is killed and resumed is the study that was never interrupted, number for number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from victim import Victim

from autopeft.trial import Trial

MEASURES_TIME = ("train_seconds", "evaluation_seconds", "seconds_per_step")


def numbers(trial: Trial) -> tuple[Any, ...]:
    """All of a trial but times."""
    observations = [
        (o.seed, o.step, o.recipe, o.curve, {name: m for name, m in o.measurements.items() if name not in MEASURES_TIME})
        for o in trial.observations
    ]
    return trial.configuration, trial.origin, trial.label, trial.state, trial.computed, observations


@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_a_resumed_study_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """With our own sampler, one trial at a time, replicates included."""
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    whole, killed = (Victim(folder, budget="11trials", sampler="pareto", seeds={"replicates": 1}) for folder in folders)
    assert whole.run() == 0
    for ended in (2, 8):
        process = killed.start()
        killed.wait(lambda ended=ended: killed.ended() >= ended, process)  # type: ignore[misc]
        killed.kill(process)
        killed.look()
    killed.finish(11)
    assert killed.damage.none
    assert [numbers(t) for t in killed.trials()] == [numbers(t) for t in whole.trials()]
