"""A trained adapter folded into the base model's weights: a folder that loads without peft."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from autopeft.errors import AutopeftError, SpecError
from autopeft.models.load import load_task_model
from autopeft_searchspace.build import MergeError, merge
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.strategies import strategy_type
from autopeft_searchspace.tuners.register import register

if TYPE_CHECKING:
    from autopeft.execute.workbench import Workbench

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CHECKED = 8
"""Training examples on which outputs before and after merging are compared."""
HEAD = ("head.safetensors", "head.json")


def check_merges(configuration: Configuration) -> None:
    """Raise SpecError where there is nothing to merge, or a part that cannot be."""
    if not configuration.components:
        raise SpecError("the configuration has no adapter, so there is nothing to merge; leave out --merge")
    if configuration.strategy and not strategy_type(configuration.strategy.name).plain_adapter:
        name = configuration.strategy.name
        raise SpecError(f"{name} makes the base model a smaller one, which is saved beside its adapter; leave out --merge")
    for component in configuration.components:
        if not adapter_type(component.type).supports.merge:
            raise SpecError(f"{component.type} cannot be folded into the base weights; leave out --merge, or take another pick")


def save_merged(bench: Workbench, adapter: Path, folder: Path) -> None:
    """Write the base model with the adapter in `adapter` merged into it, its tokeniser and its task head to `folder`.

    bench: gives base model, task and examples; its own model is left alone. The folder appears complete or
    not at all. Raises AutopeftError where outputs would change.
    """
    from peft import PeftModel

    register()
    model = load_task_model(bench.spec, bench.task, bench.folder, bench.tokenizer).to(bench.device)
    wrapped = PeftModel.from_pretrained(model.backbone, str(adapter))
    batch = bench.task.collate(bench.train_set[:CHECKED], model.pad_id, bench.device)
    try:
        merged = merge(wrapped, {name: tensor for name, tensor in batch.items() if name in INPUTS})
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
