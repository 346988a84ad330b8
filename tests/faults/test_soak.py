"""Thirty trials in one search leave coordinator and worker as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import soak


@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_a_search_does_not_grow(tmp_path: Path) -> None:
    found = soak(30, tmp_path, "random")
    assert found.trials == 30
    assert found.coordinator_growth < 50e6
    assert found.coordinator_handles <= 0
    assert found.worker_handles <= 0
    assert found.workers == 1
