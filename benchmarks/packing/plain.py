"""A trial as transformers.Trainer and peft run it: what our own ways of running one are compared with.

The base model is loaded anew for each configuration, as a script would, since an adapter changes it. Data are read and
tokenised once. Precision, dropout of the base, batch size, steps, optimiser, schedule, clipping and the start of the task head
are the study's.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments

from autopeft.device import find_devices
from autopeft.execute.workbench import Workbench
from autopeft.models.load import load_task_model
from autopeft.spec import StudySpec
from autopeft.tasks import Predictions
from autopeft.training import make_optimizer, rate_factor
from autopeft.trial import Measurement
from autopeft_searchspace.configuration import Configuration

Batches = Literal["drawn", "ours"]
"""drawn: at random, padded to the longest of each, as Trainer does. ours: those of our own trials, in their order."""


class Lossy(nn.Module):
    """A task model as Trainer wants one."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.model, self._task = bench.model, bench.task

    def forward(self, **batch: Any) -> dict[str, Any]:
        logits = self.model(batch)
        return {"loss": self._task.loss(lambda _: logits, batch), "logits": logits}


class InOrder(Trainer):
    """Takes its examples in the order in which they are given."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset)


class PlainTrials:
    """attention: implementation to load the model with; transformers' own choice is `sdpa`."""

    def __init__(self, spec: StudySpec, folder: Path, steps: int, batches: Batches, attention: str = "sdpa") -> None:
        self.bench = Workbench(spec, folder, find_devices(spec.device)[0])
        self._steps, self._batches, self._attention = steps, batches, attention

    def run(self, configuration: Configuration, seed: int = 0) -> dict[str, Measurement]:
        """Quality on the search and the confirm split after the last step."""
        bench = copy.copy(self.bench)
        spec = bench.spec
        bench.model = load_task_model(spec, bench.task, bench.folder, bench.tokenizer, attention=self._attention).to(bench.device)
        bench.model.set_base_dropout(spec.training.base_dropout)
        bench.build(configuration, seed)
        with tempfile.TemporaryDirectory() as output:
            trainer = self._trainer(bench, configuration, seed, output)
            trainer.train()
            found = {}
            for split, examples in (("search", bench.search_set), ("confirm", bench.confirm_set)):
                predictions = Predictions(np.asarray(trainer.predict(examples).predictions))
                found[split] = bench.task.score(spec.quality, predictions, examples)
        return found

    def _trainer(self, bench: Workbench, configuration: Configuration, seed: int, output: str) -> Trainer:
        training = bench.spec.training
        arguments = TrainingArguments(
            output_dir=output,
            max_steps=self._steps,
            per_device_train_batch_size=training.batch_size,
            per_device_eval_batch_size=training.evaluation_batch_size,
            max_grad_norm=training.clip_norm,
            bf16=bench.precision == "bf16",
            use_cpu=bench.device.type == "cpu",
            label_names=["labels"],
            report_to=[],
            log_level="error",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            seed=seed,
        )

        def collate(examples: Sequence[Any]) -> Any:
            return bench.task.collate(examples, bench.model.pad_id, "cpu")

        kind, examples = Trainer, bench.train_set
        if self._batches == "ours":
            batches = bench.batches(bench.recipe(self._steps), seed)
            kind, examples = InOrder, [bench.train_set[i] for batch in batches for i in batch]
        parameters = [p for p in bench.model.parameters() if p.requires_grad]
        optimizer = make_optimizer(parameters, configuration.learning_rate, training.weight_decay)
        schedule = LambdaLR(optimizer, lambda step: rate_factor(step, self._steps, training.warmup_share))
        return kind(Lossy(bench), arguments, train_dataset=examples, data_collator=collate, optimizers=(optimizer, schedule))


def drawn(space: Any, count: int) -> list[Configuration]:
    """The first `count` configurations that a seed of 0 draws and that AdamW alone trains."""
    rng, found = np.random.default_rng(0), []
    while len(found) < count:
        configuration = space.configuration(space.sample(rng))
        if configuration.strategy is None and configuration.optimizer == "adamw":
            found.append(configuration)
    return found


def use_threads(count: int) -> None:
    """Threads of this process; of worker processes as many or fewer (`device.find_slots`)."""
    torch.set_num_threads(count)
