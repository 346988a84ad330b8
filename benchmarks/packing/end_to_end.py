"""The same configurations by transformers.Trainer and peft one after another, by the local and by the packed executor.

    python benchmarks/packing/end_to_end.py SPEC [--configurations 24] [--steps 100] [--ways trainer local packed]

SPEC: a study; its model, data, recipe and device are used. Configurations are drawn from its space with seed 0.
Trainer loads the model anew for each, as a script would, with the same precision, dropout, batch size, schedule
and clipping; its batches are drawn at random and padded to their longest. Rungs are left out. Wall seconds include
evaluation on the search split. Writes ../results/end-to-end-<device>.csv, a row for each way and configuration.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import write
from torch import nn
from transformers import Trainer, TrainingArguments

from autopeft.device import find_devices
from autopeft.execute.executor import Ended, Rung
from autopeft.execute.local import LocalExecutor
from autopeft.execute.workbench import Workbench
from autopeft.spec import StudySpec
from autopeft.spec_file import read_spec
from autopeft.trial import TrialSpec
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.settings import build_space

Found = list[tuple[float, float]]
"""(search quality, wall seconds) of each configuration."""


class Lossy(nn.Module):
    """A task model as Trainer wants one."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.model, self._task = bench.model, bench.task

    def forward(self, **batch: Any) -> dict[str, Any]:
        return {"loss": self._task.loss(self.model, batch)}


def by_trainer(spec: StudySpec, folder: Path, configurations: list[Configuration], steps: int) -> Found:
    found = []
    for configuration in configurations:
        start = time.perf_counter()
        bench = Workbench(spec, folder, find_devices(spec.device)[0])
        bench.build(configuration, 0)
        training = spec.training
        with tempfile.TemporaryDirectory() as output:
            arguments = TrainingArguments(
                output_dir=output,
                max_steps=steps,
                per_device_train_batch_size=training.batch_size,
                learning_rate=configuration.learning_rate,
                warmup_steps=int(steps * training.warmup_share),
                weight_decay=training.weight_decay,
                max_grad_norm=training.clip_norm,
                bf16=bench.precision == "bf16",
                use_cpu=bench.device.type == "cpu",
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                remove_unused_columns=False,
                dataloader_pin_memory=False,
                seed=0,
            )

            def collate(examples: list[Any], bench: Workbench = bench) -> Any:
                return bench.task.collate(examples, bench.model.pad_id, "cpu")

            Trainer(Lossy(bench), arguments, train_dataset=bench.train_set, data_collator=collate).train()
        quality = bench.task.score(spec.quality, bench.predict(bench.search_set), bench.search_set).value
        found.append((quality, time.perf_counter() - start))
    return found


def by_executor(name: str, spec: StudySpec, folder: Path, configurations: list[Configuration], steps: int) -> Found:
    """All through one worker for each device, its start included in the first one's seconds."""
    given = StudySpec.model_validate({**spec.model_dump(mode="json"), "executor": {"name": name}})
    with tempfile.TemporaryDirectory() as logs:
        executor = LocalExecutor(given, folder, find_devices(spec.device), Path(logs, "worker.log"))
        start = time.perf_counter()
        executor.start(torch.get_num_threads(), calibrate=False)
        waiting = list(enumerate(configurations))
        quality, ended = {}, {}
        while len(ended) < len(configurations):
            while executor.free and waiting:
                number, configuration = waiting.pop(0)
                executor.submit(TrialSpec(number, configuration, 0, (steps,)))
            for event in executor.events(0.2):
                if isinstance(event, Rung):
                    quality[event.number] = event.observation.measurements[f"search.{spec.quality}"].value
                    executor.answer(event.number, True)
                elif isinstance(event, Ended):
                    ended[event.number] = time.perf_counter() - start
                    start = time.perf_counter()
        executor.close()
    return [(quality.get(number, float("nan")), ended[number]) for number in range(len(configurations))]


WAYS: dict[str, Callable[..., Found]] = {
    "trainer": by_trainer,
    "local": partial(by_executor, "local"),
    "packed": partial(by_executor, "packed"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--configurations", type=int, default=24)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    given = parser.parse_args()
    spec, folder = read_spec(given.spec, environ={})
    bench = Workbench(spec, folder, find_devices(spec.device)[0])
    space, rng = build_space(spec.space.preset, bench.shape, spec.space.change), np.random.default_rng(0)
    configurations = [space.configuration(space.sample(rng)) for _ in range(given.configurations)]
    rows = []
    for way in given.ways:
        for configuration, (quality, taken) in zip(configurations, WAYS[way](spec, folder, configurations, given.steps), strict=True):
            about = {"way": way, "steps": given.steps, "threads": torch.get_num_threads(), "configuration": configuration.in_words()}
            rows.append({**about, spec.quality: quality, "wall_seconds": taken})
    write("end-to-end", rows, bench.device)
    for way in given.ways:
        mine = [row for row in rows if row["way"] == way]
        print(f"{way}: {sum(r['wall_seconds'] for r in mine):.1f} s, mean {spec.quality} {np.mean([r[spec.quality] for r in mine]):.4f}")


if __name__ == "__main__":
    main()
