"""A trained adapter on disk: what peft saves, the task head beside it, and how to use them.

base_model/                                      the base model, where training changed that (LISA, Light-PEFT)
for_full_base/                                   after Light-PEFT: the adapter for the base as it was
adapter_config.json, adapter_model.safetensors   as peft writes them (none for head only)
head.safetensors, head.json                      the task head (none for causal language models)
configuration.json                               for `autopeft.apply`
README.md                                        what it is, and the lines that load it
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from peft import PeftModel

from autopeft.layerwise import LayerStrategy
from autopeft.layerwise.base_files import FOLDER
from autopeft.models.head import TaskModel
from autopeft.models.quantised import code_of
from autopeft_searchspace.build import save
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.strategies import strategy_type
from autopeft_searchspace.tuners.composition import CompositionConfig

CLASSES = {"mean": "AutoModel", "own": "AutoModelForSequenceClassification", "causal_lm": "AutoModelForCausalLM"}


def save_adapter(model: TaskModel, configuration: Configuration, folder: Path, strategy: LayerStrategy | None = None) -> int:
    """Write adapter, head, configuration and README, and the base model where the strategy changed it; returns
    the bytes that the weights of the adapter, or of that base model, take.

    The folder appears complete or not at all.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    stored = 0
    if isinstance(model.backbone, PeftModel):
        save(model.backbone, str(partial))
        stored = (partial / "adapter_model.safetensors").stat().st_size
    model.save_head(partial)
    if strategy:
        strategy.save(partial)
        stored += sum(file.stat().st_size for file in (partial / FOLDER).glob("*.safetensors"))
    (partial / "configuration.json").write_text(json.dumps(configuration.to_json(), indent=1), encoding="utf-8")
    (partial / "README.md").write_text(_readme(model, configuration), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return stored


def _readme(model: TaskModel, configuration: Configuration) -> str:
    """A card whose code runs as it stands, in the adapter's folder."""
    kind = strategy_type(configuration.strategy.name) if configuration.strategy else None
    changes_base, pruned = kind is not None and not kind.plain_adapter, kind is not None and kind.prunes
    base = FOLDER if changes_base else model.backbone.config.name_or_path
    trained_on = model.backbone.config.name_or_path
    wrapped = isinstance(model.backbone, PeftModel)
    composed = wrapped and isinstance(model.backbone.peft_config["default"], CompositionConfig)
    auto = CLASSES[model.head_kind]
    lines = ["from pathlib import Path", ""] if pruned else []
    lines += ["import torch"]
    if composed:
        lines.append("import autopeft  # lets peft load compositions of adapters")
    if wrapped:
        lines.append("from peft import PeftModel")
    if model.head_kind == "mean" or not wrapped:
        lines.append("from safetensors.torch import load_file")
    quantised = code_of(model.backbone)
    outputs = f", num_labels={model.backbone.config.num_labels}" if model.head_kind == "own" else ""
    as_trained = f", quantization_config={quantised}" if quantised else ""
    if pruned:
        lines.append("from autopeft.layerwise.structure import load_pruned")
    lines += [
        f"from transformers import {'' if pruned else f'{auto}, '}AutoTokenizer{', BitsAndBytesConfig' if quantised else ''}",
        "",
        f"base = {base!r}",
        f"tokenizer = AutoTokenizer.from_pretrained({trained_on!r})" if changes_base else "tokenizer = AutoTokenizer.from_pretrained(base)",
        "model = load_pruned(Path(base))" if pruned else f"model = {auto}.from_pretrained(base{outputs}, dtype=torch.float32{as_trained})",
    ]
    if wrapped:
        lines.append('model = PeftModel.from_pretrained(model, ".")')
    elif model.head_kind == "own":
        lines.append('model.load_state_dict(load_file("head.safetensors"), strict=False)')
    lines.append("model.eval()")
    if model.head_kind == "causal_lm":
        lines += ["", 'tokens = tokenizer(["your prompt"], return_tensors="pt")']
        lines.append("print(tokenizer.decode(model.generate(**tokens, max_new_tokens=64)[0]))")
    else:
        lines += ["", 'tokens = tokenizer(["your text"], return_tensors="pt")', "with torch.no_grad():"]
        if model.head_kind == "mean":
            lines += [
                "    hidden = model(**tokens).last_hidden_state",
                '    mask = tokens["attention_mask"].unsqueeze(-1)',
                "    mean = (hidden * mask).sum(1) / mask.sum(1)",
                '    head = load_file("head.safetensors")',
                '    logits = mean @ head["weight"].T + head["bias"]',
            ]
        else:
            lines.append("    logits = model(**tokens).logits")
        lines.append("print(logits)")
    notes = "".join(f"\n- {name}: {json.dumps(value)}" for name, value in model.notes.items())
    code = "\n".join(lines)
    return f"# {configuration.in_words()}\n\nTrained on `{trained_on}` by autopeft.\n{notes}\n\n```python\n{code}\n```\n"
