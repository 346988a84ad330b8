"""A made-up study as a folder, as the repository keeps recorded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import synthetic

from autopeft import recorded
from autopeft.spec_file import dump_spec


def write_study(folder: Path, **settings: Any) -> Path:
    record = synthetic.record(**settings)
    dump_spec(record.spec, folder / "study.yaml", folder)
    recorded.write(folder, {**record.environment, "shape": record.shape.to_json()}, record.trials)
    return folder
