"""`peft`: the `adapter_config.json` that trains the configuration.

One component of a type that Hugging Face peft has needs nothing of ours. Everything else becomes the
config of the composition tuner, with `configuration.json` beside it, and loads after `import autopeft`.
"""

from __future__ import annotations

import json
from pathlib import Path

from autopeft import files
from autopeft.errors import AutopeftError
from autopeft.export import configuration as plain
from autopeft.export import register
from autopeft.models.quantised import loading_code
from autopeft.record import StudyRecord
from autopeft.trial import Trial
from autopeft_searchspace.build import peft_config, plain_config
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.shape import ModelShape

TASKS = {
    "classification": ("SEQ_CLS", "AutoModelForSequenceClassification"),
    "regression": ("SEQ_CLS", "AutoModelForSequenceClassification"),
    "causal_lm": ("CAUSAL_LM", "AutoModelForCausalLM"),
}
"""Kind of task -> peft's task type, by which the task head trains too, and the class of the model."""
HEADS = {"SEQ_CLS": ("classifier", "pre_classifier", "score"), "CAUSAL_LM": ("lm_head", "embed_out")}
"""Names that task heads have; they are not quantised."""


@register("peft")
def write(record: StudyRecord, trial: Trial, folder: Path) -> None:
    configuration = trial.configuration
    if not configuration.components and configuration.strategy:
        raise AutopeftError(
            f"trial {trial.number} trains the base model itself ({configuration.strategy.name}), which is no adapter of peft"
        )
    if not configuration.components:
        raise AutopeftError(f"trial {trial.number} trains the task head alone, so peft has nothing to build; pick another trial")
    config = peft_config(configuration, record.shape)
    config.task_type = TASKS[record.spec.task.kind][0]
    config.base_model_name_or_path = public_name(record)
    config.save_pretrained(str(folder))
    needs_autopeft = not is_plain(configuration, record.shape)
    if needs_autopeft:
        plain.write(record, trial, folder)
    files.write_text(folder / "README.md", readme(record, trial, needs_autopeft))


def is_plain(configuration: Configuration, shape: ModelShape) -> bool:
    """Whether plain peft builds the configuration."""
    return plain_config(configuration, shape) is not None


def readme(record: StudyRecord, trial: Trial, needs_autopeft: bool) -> str:
    """What the folder is and how to train from it. Names stand in code, quoted as Python quotes them."""
    model = TASKS[record.spec.task.kind][1]
    base = json.dumps(public_name(record) or "the base model's folder")
    quantised = quantisation_code(record, trial)
    first = ["import autopeft  # registers the composition with peft"] if needs_autopeft else []
    return "\n".join(
        [
            f"# Trial {trial.number}",
            "",
            f"    {trial.configuration.in_words()}",
            "",
            f"{'An autopeft composition' if needs_autopeft else 'A plain peft configuration'}, to be trained:",
            "",
            "```python",
            *first,
            "from peft import PeftConfig, get_peft_model",
            f"from transformers import {model}{', BitsAndBytesConfig' if quantised else ''}",
            "",
            f"base = {model}.from_pretrained({base}{f', quantization_config={quantised}' if quantised else ''})",
            'model = get_peft_model(base, PeftConfig.from_pretrained("this folder"))',
            "```",
            "",
            f"The search trained it with {recipe_in_words(record, trial)}.",
            *_about_the_head(record),
            "",
        ]
    )


def quantisation_code(record: StudyRecord, trial: Trial) -> str:
    """What loads the base model as quantised as the trial had it: `BitsAndBytesConfig(...)`, or nothing."""
    precision = record.environment.get("recipe", {}).get("precision", "fp32")
    return loading_code(trial.configuration.quantisation, precision, HEADS[TASKS[record.spec.task.kind][0]])


def recipe_in_words(record: StudyRecord, trial: Trial) -> str:
    training = record.spec.training
    strategy = trial.configuration.strategy
    under = f", under the layer strategy {strategy.in_words()}, which `autopeft train` follows" if strategy else ""
    kind = {"adamw": "AdamW"}.get(trial.configuration.optimizer, f"{trial.configuration.optimizer} on AdamW")
    return (
        f"{kind}, learning rate {trial.configuration.learning_rate:g} (warm-up over {training.warmup_share:.0%} of the steps, then "
        f"linear to 0), batches of {training.batch_size}, weight decay {training.weight_decay:g}{under}"
    )


def _about_the_head(record: StudyRecord) -> list[str]:
    averages = record.spec.task.kind != "causal_lm" and record.spec.model.head != "own" and record.shape.kind == "encoder"
    if record.spec.model.head != "mean" and not averages:
        return []
    return ["Its task head was a linear layer on the mean of the last hidden states; the model's own head may do worse."]


def public_name(record: StudyRecord) -> str | None:
    """The base model's Hugging Face id, None for weights that only this machine has."""
    base = record.spec.model.base
    local = base.startswith(("package:", ".", "/", "~")) or (record.folder / base).exists()
    return None if local else base
