"""`axolotl`: the YAML that Axolotl trains from. Keys as in its `AxolotlInputConfig` (0.19)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autopeft import files
from autopeft.export import register
from autopeft.export.language import TRAINING_FILE, as_yaml, lora_settings, recipe
from autopeft.record import StudyRecord
from autopeft.trial import Trial

FILE = "axolotl.yaml"
KNOWN = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
    "layers_to_transform": "peft_layers_to_transform",
    "layers_pattern": "peft_layers_pattern",
    "use_dora": "peft_use_dora",
    "use_rslora": "peft_use_rslora",
    "init_lora_weights": "peft_init_lora_weights",
    "rank_pattern": "lora_rank_pattern",
    "alpha_pattern": "lora_alpha_pattern",
}


QUANTISED: dict[str, dict[str, Any]] = {
    "none": {},
    "int8": {"load_in_8bit": True},
    "nf4": {
        "adapter": "qlora",
        "load_in_4bit": True,
        "bnb_config_kwargs": {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False},
    },
}
"""Quantisation of the base model -> settings."""


@register("axolotl")
def write(record: StudyRecord, trial: Trial, folder: Path) -> None:
    made = recipe(record, trial)
    columns = {"field_instruction": "prompt", "field_output": "completion", "format": "{instruction}", "no_input_format": "{instruction}"}
    settings = {
        "base_model": made.base,
        "adapter": "lora",
        **QUANTISED[trial.configuration.quantisation],
        **lora_settings(record, trial, "axolotl", KNOWN),
        "datasets": [{"path": TRAINING_FILE, "ds_type": "json", "type": columns}],
        "train_on_inputs": False,
        "sequence_len": made.max_length,
        "micro_batch_size": made.batch_size,
        "gradient_accumulation_steps": 1,
        "max_steps": made.steps,
        "learning_rate": made.learning_rate,
        "warmup_steps": made.warmup_steps,
        "lr_scheduler": "linear",
        "optimizer": "adamw_torch",
        "weight_decay": made.weight_decay,
        "max_grad_norm": made.clip_norm,
        "bf16": made.bf16,
        "output_dir": "adapter",
    }
    lead = [
        f"Trial {trial.number}: {trial.configuration.in_words()}",
        f"axolotl train {FILE}",
        f"Training data: {TRAINING_FILE} beside this file, columns prompt and completion. More steps may want a lower learning rate.",
    ]
    files.write_text(folder / FILE, as_yaml(settings, lead))
