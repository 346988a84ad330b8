"""Fixtures that cost seconds: one real, small study for all tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import Quiet, run_small


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of nine trials on MiniLM. Read it, copy it, do not change it."""
    folder = tmp_path_factory.mktemp("small")
    run_small(folder / "source", folder / "study")
    return folder / "study"


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()
