"""What the exports to trainers of language models share: they take a single LoRA of plain peft, and the
study's recipe in their own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from autopeft.errors import AutopeftError
from autopeft.export.peft import public_name
from autopeft.record import StudyRecord
from autopeft.trial import Trial
from autopeft_searchspace.build import peft_config, starts_from_data
from autopeft_searchspace.configuration import OPTIMIZERS

TRAINING_FILE = "train.jsonl"
BASE_MODEL = "path/to/the/base/model"
"""Stands in where the base model is known on one machine alone."""
BY_US = ("peft_type", "task_type", "base_model_name_or_path", "auto_mapping", "peft_version", "inference_mode", "revision")


@dataclass(frozen=True)
class Recipe:
    """The study's training recipe. warmup_steps: of `steps`, then linear to 0."""

    base: str
    learning_rate: float
    batch_size: int
    steps: int
    warmup_steps: int
    weight_decay: float
    clip_norm: float
    max_length: int
    bf16: bool


def recipe(record: StudyRecord, trial: Trial) -> Recipe:
    training, steps = record.spec.training, int(record.environment["total_steps"])
    return Recipe(
        base=public_name(record) or BASE_MODEL,
        learning_rate=trial.configuration.learning_rate,
        batch_size=training.batch_size,
        steps=steps,
        warmup_steps=round(training.warmup_share * steps),
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        max_length=record.spec.data.max_length,
        bf16=record.environment.get("recipe", {}).get("precision") == "bf16",
    )


def check_plain(trial: Trial, tool: str) -> None:
    """Raises AutopeftError where a trial trains in a way that the loops of other tools do not have."""
    configuration = trial.configuration
    own = [
        f"under the strategy {configuration.strategy.name}" if configuration.strategy else "",
        f"with the optimiser {configuration.optimizer}" if configuration.optimizer != OPTIMIZERS[0] else "",
        "from a start that is made from training batches" if starts_from_data(configuration) else "",
    ]
    if said := " and ".join(part for part in own if part):
        raise AutopeftError(f"{tool} does not train trial {trial.number} as the study did, {said}; `autopeft train` does")


def lora_settings(record: StudyRecord, trial: Trial, tool: str, known: Mapping[str, str]) -> dict[str, Any]:
    """The configuration as settings of `tool`, those of plain peft's `LoraConfig` that are not its defaults.

    known: field of `LoraConfig` -> the tool's name for it. Raises AutopeftError for a study that is not
    causal_lm, a configuration that is not a single LoRA of plain peft, or one that `tool` has no word for.
    """
    from peft import LoraConfig

    if record.spec.task.kind != "causal_lm":
        raise AutopeftError(f"{tool} trains language models, the task of this study is {record.spec.task.kind}; --to peft takes any")
    check_plain(trial, tool)
    components = trial.configuration.components
    config = peft_config(trial.configuration, record.shape) if components else None
    if not isinstance(config, LoraConfig):
        words = trial.configuration.in_words()
        raise AutopeftError(f"{tool} takes a single LoRA that plain peft has, trial {trial.number} is {words}; --to trl takes any")
    default, own = LoraConfig().to_dict(), config.to_dict()
    changed = {name: value for name, value in own.items() if name not in BY_US and value != default.get(name)}
    changed |= {name: own[name] for name in ("r", "lora_alpha", "target_modules")}
    if unknown := sorted(changed.keys() - known.keys()):
        raise AutopeftError(f"{tool} has no setting for {', '.join(unknown)} of trial {trial.number}; --to trl takes any configuration")
    changed["target_modules"] = sorted(changed["target_modules"])
    return {known[name]: changed[name] for name in known if name in changed}


def as_yaml(settings: Mapping[str, Any], lead: list[str]) -> str:
    """Settings as YAML under comment lines."""
    comments = "".join(f"# {' '.join(line.split())}\n" for line in lead)
    return comments + yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
