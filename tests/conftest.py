"""What every test starts from: no network, no settings of the user's own, no GPU unless there is one;
and fixtures that cost seconds: one real, small study for all tests that only read it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from small import Quiet

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for _name in [name for name in os.environ if name.startswith("AUTOPEFT_")]:
    del os.environ[_name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of nine trials on MiniLM. Read it, copy it, do not change it."""
    from small import run_small

    folder = tmp_path_factory.mktemp("small")
    run_small(folder / "source", folder / "study")
    return folder / "study"


@pytest.fixture
def quiet() -> Quiet:
    from small import Quiet

    return Quiet()
