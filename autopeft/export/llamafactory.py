"""`llamafactory`: the YAML that LLaMA-Factory trains from, and its list of data sets. Arguments as in its
`hparams` (0.9.5). It has no choice of layers, so that module names carry their layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autopeft import files
from autopeft.export import register
from autopeft.export.language import TRAINING_FILE, as_yaml, lora_settings, recipe
from autopeft.record import StudyRecord
from autopeft.trial import Trial

FILE, DATA_SETS = "llamafactory.yaml", "dataset_info.json"
KNOWN = {
    "r": "lora_rank",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target",
    "use_dora": "use_dora",
    "use_rslora": "use_rslora",
}


QUANTISED: dict[str, dict[str, Any]] = {
    "none": {},
    "int8": {"quantization_bit": 8, "quantization_method": "bnb"},
    "nf4": {"quantization_bit": 4, "quantization_method": "bnb", "quantization_type": "nf4", "double_quantization": False},
}
"""Quantisation of the base model -> settings."""


@register("llamafactory")
def write(record: StudyRecord, trial: Trial, folder: Path) -> None:
    made = recipe(record, trial)
    lora = lora_settings(record, trial, "llamafactory", KNOWN)
    settings = {
        "model_name_or_path": made.base,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        **QUANTISED[trial.configuration.quantisation],
        **lora,
        "lora_target": ",".join(lora["lora_target"]),
        "dataset": "train",
        "dataset_dir": ".",
        "template": "empty",
        "cutoff_len": made.max_length,
        "per_device_train_batch_size": made.batch_size,
        "gradient_accumulation_steps": 1,
        "max_steps": made.steps,
        "learning_rate": made.learning_rate,
        "warmup_steps": made.warmup_steps,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch",
        "weight_decay": made.weight_decay,
        "max_grad_norm": made.clip_norm,
        "bf16": made.bf16,
        "output_dir": "adapter",
    }
    lead = [
        f"Trial {trial.number}: {trial.configuration.in_words()}",
        f"llamafactory-cli train {FILE}    (in this folder)",
        f"Training data: {TRAINING_FILE} beside this file, columns prompt and completion. More steps may want a lower learning rate.",
    ]
    files.write_text(folder / FILE, as_yaml(settings, lead))
    files.write_json(folder / DATA_SETS, {"train": {"file_name": TRAINING_FILE, "columns": {"prompt": "prompt", "response": "completion"}}})
