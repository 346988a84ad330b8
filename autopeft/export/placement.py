"""`placement`: where to adapt, by the importance of layers that runs found, in the words of Hugging Face peft.

importance           layer -> importance, mean 1
layers_to_transform  layers of at least mean importance
rank_pattern         module -> rank, in proportion to importance, with the trial's sum of ranks; of LoRA alone
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autopeft import files
from autopeft.errors import AutopeftError
from autopeft.export import register
from autopeft.layer_importance import of_study
from autopeft.record import StudyRecord
from autopeft.trial import Trial

FILE = "placement.json"


@register("placement")
def write(record: StudyRecord, trial: Trial, folder: Path) -> None:
    """What the trial's own runs tell, or else all runs of the study."""
    found = of_study([trial], record.shape) or of_study(record.trials, record.shape)
    if found is None:
        raise AutopeftError("no run of this study tells the importance of layers; search with the strategies ist or light_peft")
    layers = found.layers
    mean = sum(layers) / len(layers)
    content: dict[str, Any] = {
        "importance": {str(layer): round(value / mean, 4) for layer, value in enumerate(layers)},
        "layers_to_transform": [layer for layer, value in enumerate(layers) if value >= mean],
    }
    for component in trial.configuration.components:
        if component.type == "lora":
            ranks = shared_out(component.size * len(component.layers), [layers[layer] for layer in component.layers])
            content.setdefault("rank_pattern", {}).update(
                (record.shape.modules[role][layer].path, rank)
                for layer, rank in zip(component.layers, ranks, strict=True)
                for role in component.roles
            )
    files.write_json(folder / FILE, content)


def shared_out(total: int, weights: Sequence[float]) -> list[int]:
    """`total` in whole parts of at least 1, as near to proportional as that allows (largest remainders).

    >>> shared_out(11, [2.0, 1.0, 1.0])
    [5, 3, 3]
    """
    sum_of = sum(weights) or 1.0
    left = total - len(weights)
    exact = [left * weight / sum_of for weight in weights]
    parts = [1 + int(value) for value in exact]
    order = sorted(range(len(weights)), key=lambda i: (int(exact[i]) - exact[i], i))
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts
