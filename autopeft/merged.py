"""What becomes of a saved adapter: read again and compared, or folded into the base model's weights.

A merged model is a folder that loads without peft.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from autopeft.device import autocast
from autopeft.errors import AutopeftError, SpecError
from autopeft.tasks.tokens import evaluating
from autopeft_searchspace.build import MergeError, merge
from autopeft_searchspace.configuration import QUANTISATIONS, Configuration
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.strategies import strategy_type
from autopeft_searchspace.tuners.register import register

if TYPE_CHECKING:
    from torch import Tensor

    from autopeft.execute.workbench import Workbench
    from autopeft.models.head import TaskModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CHECKED = 8
"""Training examples on which outputs before and after merging are compared."""
TOLERANCE = 1e-3
"""Share of the largest output by which a reloaded adapter may differ from the trained one."""
HEAD = ("head.safetensors", "head.json")


def check_merges(configuration: Configuration) -> None:
    """Raise SpecError where there is nothing to merge, or a part that cannot be."""
    if not configuration.components:
        raise SpecError("the configuration has no adapter, so there is nothing to merge; leave out --merge")
    if configuration.strategy and not strategy_type(configuration.strategy.name).plain_adapter:
        name = configuration.strategy.name
        raise SpecError(f"{name} makes the base model a smaller one, which is saved beside its adapter; leave out --merge")
    if configuration.quantisation != QUANTISATIONS[0]:
        raise SpecError(f"the base model's weights are in {configuration.quantisation}, which cannot take up an update; leave out --merge")
    for component in configuration.components:
        if not adapter_type(component.type).supports.merge:
            raise SpecError(f"{component.type} cannot be folded into the base weights; leave out --merge, or take another pick")


def outputs(bench: Workbench, model: TaskModel) -> Tensor:
    """What the backbone of `model` says of the first examples of the training set: logits, else last hidden states.

    In float32, where the base model is not quantised: in 16 bits equal weights in another form give other outputs.
    """
    batch = bench.task.collate(bench.train_set[:CHECKED], model.pad_id, bench.device)
    precision = "fp32" if bench.quantisation == QUANTISATIONS[0] else bench.precision
    with evaluating(model), autocast(bench.device.type, precision):
        found = model.backbone(**{name: tensor for name, tensor in batch.items() if name in INPUTS})
    kept: Tensor = found.logits if hasattr(found, "logits") else found.last_hidden_state
    return kept.float()


def check_reloads(bench: Workbench, adapter: Path, said: Tensor) -> None:
    """Raise AutopeftError unless the adapter in a folder, put on the base model again, says what it said when it was trained.

    said: its `outputs` then. Nothing to check where the task head alone trained.
    """
    if not (adapter / "adapter_config.json").exists():
        return
    found, largest = outputs(bench, _loaded(bench, adapter)), max(1.0, float(said.abs().max()))
    difference = float((found - said).abs().max())
    if not difference <= TOLERANCE * largest:
        raise AutopeftError(f"the adapter saved in {adapter} gives other outputs than were trained: they differ by up to {difference:.2g}")


def _loaded(bench: Workbench, adapter: Path) -> TaskModel:
    """The base model anew with a saved adapter on it; the bench's own model is left alone."""
    from peft import PeftModel

    register()
    model = bench.load(bench.quantisation)
    model.backbone = PeftModel.from_pretrained(model.backbone, str(adapter))
    return model


def save_merged(bench: Workbench, adapter: Path, folder: Path) -> None:
    """Write the base model with the adapter in `adapter` merged into it, its tokeniser and its task head to `folder`.

    bench: gives base model, task and examples; its own model is left alone. The folder appears complete or
    not at all. Raises AutopeftError where outputs would change.
    """
    model = _loaded(bench, adapter)
    batch = bench.task.collate(bench.train_set[:CHECKED], model.pad_id, bench.device)
    try:
        merged = merge(model.backbone, {name: tensor for name, tensor in batch.items() if name in INPUTS})
    except MergeError as error:
        raise AutopeftError(f"the adapter in {adapter} stays as it is: {error}") from error
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    merged.save_pretrained(partial)
    bench.tokenizer.save_pretrained(partial)
    for name in HEAD if model.head_kind == "mean" else ():
        shutil.copy(adapter / name, partial / name)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
