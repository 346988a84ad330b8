"""A trained adapter on disk: what peft saves, the task head beside it, and the configuration.

adapter_config.json, adapter_model.safetensors   as peft writes them (none for head only)
head.safetensors, head.json                      the task head where it is ours (mean pooling)
configuration.json                               for `autopeft.apply`
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel

from autopeft.models.head import TaskModel
from autopeft_searchspace.configuration import Configuration


def save_adapter(model: TaskModel, configuration: Configuration, folder: Path, labels: Sequence[str]) -> int:
    """Write adapter, head and configuration; returns the bytes that the adapter's weights take.

    The folder appears complete or not at all.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    stored = 0
    if isinstance(model.backbone, PeftModel):
        model.backbone.save_pretrained(str(partial), safe_serialization=True)
        stored = (partial / "adapter_model.safetensors").stat().st_size
    model.save_head(partial)
    (partial / "configuration.json").write_text(json.dumps(configuration.to_json(), indent=1), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return stored
