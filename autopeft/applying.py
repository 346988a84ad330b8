"""A found configuration on a user's own model, for a training script of their own.

import autopeft
from transformers import AutoModelForSequenceClassification, Trainer

model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
model = autopeft.apply(model, "configuration.json")
Trainer(model, ...).train()
model.save_pretrained("adapter")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from autopeft.errors import ModelError, SpecError, near
from autopeft.models.head import own_head_modules
from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt, start
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.strategies import strategy_type

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
}
"""Ending of the model's class -> peft's task type; any other class is a bare base model."""


def apply(
    model: PreTrainedModel,
    configuration: Configuration | Mapping[str, Any] | str | PathLike[str],
    *,
    roles: Mapping[str, str] | None = None,
    losses: Sequence[Callable[[PeftModel], Tensor]] = (),
) -> PeftModel:
    """`model` with the adapters of `configuration`: they and the task head train, all else is frozen.

    A new task head (`classifier`, `score`, `qa_outputs` ...) trains and is saved whole with the
    adapter; the vocabulary head of a language model stays frozen. The learning rate is the caller's:
    `configuration["learning_rate"]` is the one that was found. So is a layer strategy, which is for the loop
    that trains; one that changes the base model itself (`lisa`, `light_peft`) is refused.

    configuration: as found, as a dict, or the path of the JSON file that `autopeft export` writes.
    roles: module role -> module name inside a layer, for architectures that are not recognised.
    losses: of a few training batches each, given the model, for adapters that start from data (`lora` with init eva,
        corda or lora_ga, and `rosa`): `[lambda model, batch=batch: model(**batch).loss for batch in batches]`. Save
        those by `autopeft.save(model, folder)`, which also writes what was taken out of the base model's weights.
    Raises SpecError where the configuration cannot be read, ModelError where the model cannot take it.
    """
    found = configuration if isinstance(configuration, Configuration) else _parse(configuration)
    if found.strategy and not strategy_type(found.strategy.name).plain_adapter:
        raise ModelError(f"strategy {found.strategy.name} changes the base model itself while it trains, which needs `autopeft train`")
    task_type = next((kind for ending, kind in TASK_TYPES.items() if type(model).__name__.endswith(ending)), None)
    heads = () if task_type in ("CAUSAL_LM", None) else own_head_modules(model)
    if not found.components and not heads:
        raise ModelError(f"the configuration trains the task head alone, and {type(model).__name__} has none")
    try:
        shape = find_shape(model, roles)
        adapted: Any = adapt(model, found, shape, task_type=task_type, modules_to_save=heads)
        start(adapted, found, shape, [partial(loss, adapted) for loss in losses])
        return cast("PeftModel", adapted)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _parse(configuration: Mapping[str, Any] | str | PathLike[str]) -> Configuration:
    where = "configuration"
    if isinstance(configuration, str | PathLike):
        where = str(Path(configuration))
        try:
            configuration = json.loads(Path(configuration).read_text(encoding="utf-8"))
        except OSError as error:
            raise SpecError(f"{where}: {error.strerror or error}") from error
        except ValueError as error:
            raise SpecError(f"{where} is no JSON: {error}") from error
    if not isinstance(configuration, Mapping):
        raise SpecError(f"{where} must be an object with components and learning_rate, it is {type(configuration).__name__}")
    known = ("components", "learning_rate", "strategy", "optimizer", "quantisation")
    for name in configuration:
        if name not in known:
            raise SpecError(f"{where}: unknown key {name!r}{near(str(name), known)}")
    try:
        return Configuration.from_json(configuration)
    except KeyError as error:
        raise SpecError(f"{where}: key {error.args[0]!r} is missing") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise SpecError(f"{where}: components must be a list of objects with type, size and layers ({error})") from error
