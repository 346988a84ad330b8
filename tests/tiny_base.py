"""Small random base models with a tokeniser, saved as folders that load like any other base model."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import tiny
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from autopeft.data import Splits
from autopeft.models.head import TaskModel
from autopeft.models.load import load_task_model
from autopeft.spec import StudySpec
from autopeft.tasks import Task, task_for

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
WORDS = (*string.ascii_lowercase, *string.digits, *"#?.", "what", "is", "the", "sum")


def tokenizer(*, begins: bool = True, pairs: bool = False) -> PreTrainedTokenizerBase:
    """One token per word; unknown words are <unk>. begins: texts start with <s>. pairs: </s> parts two texts."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    assert len(vocabulary) <= tiny.VOCABULARY
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if pairs:
        words.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    elif begins:
        words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special: dict[str, Any] = {}
    if pairs:
        special = {"sep_token": "</s>", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=40, **special
    )


def save_base(folder: Path, architecture: str, head: str = "none", **settings: Any) -> Path:
    """A base model folder: config, safetensors weights, tokeniser."""
    tiny.build(architecture, head, **settings).save_pretrained(folder)
    tokenizer(begins=architecture in tiny.DECODERS, pairs=architecture in tiny.ENCODERS).save_pretrained(folder)
    return folder


def splits(kind: str, rows: int = 6) -> Splits:
    """A few examples of a kind of task, the same in every split."""
    if kind == "causal_lm":
        examples = tuple({"prompt": f"what is the sum {i} ?", "completion": f"it is # {i}"} for i in range(rows))
    elif kind == "regression":
        examples = tuple({"text": f"a b {i}", "label": float(i)} for i in range(rows))
    else:
        examples = tuple({"text": f"a b {i}" + " c" * (i % 3), "label": "xyz"[i % 3]} for i in range(rows))
    return Splits(examples, examples, examples, (), ("x", "y", "z") if kind == "classification" else (), "given")


def load(
    base: Path | str, kind: str = "classification", *, weights: bool = True, attention: str = "sdpa", **settings: Any
) -> tuple[TaskModel, Task, StudySpec]:
    """Task model and task. settings: parts of the spec, e.g. `model={"head": "own"}`."""
    content = {**settings, "model": {"base": str(base), **settings.get("model", {})}, "task": {"kind": kind, **settings.get("task", {})}}
    spec = StudySpec.model_validate({"name": "tiny", "data": {"source": "unused", "max_length": 16}, **content})
    task = task_for(spec.task, splits(kind))
    return load_task_model(spec, task, weights=weights, attention=attention), task, spec
