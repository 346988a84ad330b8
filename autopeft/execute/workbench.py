"""Base model, data and task loaded once; trials trained on them one after another.

Between trials the base model is given back bit for bit (`build.unadapt`), the head and all random
numbers start from the trial's seed, and every trial of a seed sees the same batches in the same
order, so that a trial's numbers do not depend on what ran before it.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from autopeft.adapter_files import save_adapter
from autopeft.baselines import REFERENCE, baselines
from autopeft.batches import training_batches
from autopeft.casts import Casts
from autopeft.data import read_data
from autopeft.device import autocast, environment, find_attention, find_device, find_precision
from autopeft.execute.bases import Bases
from autopeft.execute.frozen import make_store, untouched_layers
from autopeft.layerwise import LayerStrategy, make_strategy
from autopeft.layerwise.probe import BATCHES, HEAD_STEPS, probe
from autopeft.meters import measure_peak
from autopeft.models.head import TaskModel
from autopeft.models.load import load_task_model, load_tokenizer
from autopeft.models.quantised import Quantisation
from autopeft.models.roles import find_shape, transformer_blocks
from autopeft.objectives import Run, measured
from autopeft.spec import PROBE, StudySpec
from autopeft.tasks import Batch, Predictions, task_for
from autopeft.training import Diverged, Progress, Recipe, make_optimizer, train, train_step
from autopeft.trial import Measurement, Observation, TrialSpec, TrialState
from autopeft_searchspace.build import adapt, start, starts_from_data, unadapt
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.prior import Prior
from autopeft_searchspace.rules import HEAD_ONLY_LEARNING_RATE
from autopeft_searchspace.settings import offered

CALIBRATION_STEPS = 3
START_BATCHES = 4
"""Training batches that data-driven starts look at."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. test: scores on the test split where they were asked for."""

    state: TrialState
    reason: str = ""
    seconds: float = 0.0


class Workbench:
    """Raises AutopeftError where model or data cannot be used."""

    def __init__(self, spec: StudySpec, folder: Path, device: str) -> None:
        self.spec, self.folder = spec, folder
        self.device = find_device(device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # kernels run on the current one
        self.splits = read_data(spec.data, spec.task, folder)
        self.task = task_for(spec.task, self.splits)
        self.tokenizer = load_tokenizer(spec.model, folder)
        self.precision = find_precision(spec.precision, self.device)
        self.attention = find_attention(self.device.type, self.precision, spec.data.max_length)
        self._bases = Bases(self.load, lambda: make_store(folder), self.device)
        self.quantisation = ""
        self.usual = offered(spec.space.preset, spec.space.change)[0]
        self.use(self.usual)
        self.shape = find_shape(self.model.backbone, spec.model.roles)
        self.train_set = self.encode(self.splits.train)
        self.search_set = self.encode(self.splits.search)
        self.confirm_set = self.encode(self.splits.confirm)
        self.strategy: LayerStrategy | None = None
        self.casts = Casts(self.device.type)

    def load(self, quantisation: str) -> TaskModel:
        """The base model with its task head anew, on the device."""
        wanted = Quantisation(quantisation, str(self.device), self.precision)
        return load_task_model(self.spec, self.task, self.folder, self.tokenizer, attention=self.attention, quantisation=wanted).to(
            self.device
        )

    def use(self, quantisation: str) -> None:
        """Make the base model of a quantisation the one that trials run on."""
        if quantisation != self.quantisation:
            base = self._bases.of(quantisation)
            self.quantisation, self.model, self.frozen = quantisation, base.model, base.frozen

    @property
    def stored_bytes(self) -> int:
        """Memory that hidden states of frozen layers take, which grows on purpose."""
        return self._bases.stored_bytes

    def encode(self, examples: Sequence[Any]) -> Any:
        return self.task.encode(examples, self.tokenizer, self.spec.data.max_length)

    def recipe(self, total_steps: int) -> Recipe:
        """The recipe of this study for runs of `total_steps`."""
        training = self.spec.training
        reference = [self.train_set[i] for i in self.longest_batch()]
        longest = reference[0].length
        counted = longest - min(e.length - e.completion for e in reference) if self.model.head_kind == "causal_lm" else 0
        return Recipe(
            base=self.spec.model.base,
            head=self.model.head_kind,
            metric=self.spec.quality,
            data=self.splits.sha256,
            max_length=self.spec.data.max_length,
            longest=longest,
            device_type=self.device.type,
            precision=self.precision,
            batch_size=training.batch_size,
            total_steps=total_steps,
            warmup_share=training.warmup_share,
            weight_decay=training.weight_decay,
            clip_norm=training.clip_norm,
            base_dropout=training.base_dropout,
            counted=counted,
            attention=self.attention,
        )

    def prepare(self, threads: int | None, *, calibrate: bool) -> dict[str, Any]:
        """Settle the thread count and say what was loaded; `calibrate` also times steps.

        Returns shape, environment, data counts, threads, longest example and, where calibrated,
        `seconds_per_step` and `evaluation_seconds` of LoRA r=8 on q,v, which costs what most trials cost.
        """
        if self.device.type == "cpu":
            torch.set_num_threads(threads or self._best_thread_count())
        found: dict[str, Any] = {
            "shape": self.shape.to_json(),
            "environment": environment(self.device),
            "data": {
                "sha256": self.splits.sha256,
                "counts": self.splits.counts,
                "labels": list(self.splits.labels),
                "at_max_length": sum(e.length == self.spec.data.max_length for e in self.train_set),
            },
            "threads": torch.get_num_threads(),
            "recipe": vars(self.recipe(0)),
        }
        if calibrate:
            step, evaluation = self._time_steps()
            found.update(seconds_per_step=step, evaluation_seconds=evaluation)
            if self.spec.importance == PROBE:
                found["importance"] = self._probe().to_json()
        return found

    def _probe(self) -> Prior:
        """Importance of layers and roles: by gradients on the batches after those that the task head was trained on."""
        recipe = self.recipe(HEAD_STEPS)
        batches = self.batches(self.recipe(HEAD_STEPS + BATCHES), seed=0)
        self.build(Configuration((), HEAD_ONLY_LEARNING_RATE, quantisation=self.usual), seed=0)
        try:
            train(self.model, lambda step: self._loss(batches[step]), recipe, HEAD_ONLY_LEARNING_RATE, [HEAD_STEPS], lambda progress: True)
            base = getattr(self.model.backbone, "get_base_model", lambda: self.model.backbone)().base_model
            return probe(base, self.shape, lambda batch: self._loss(batches[batch]), range(HEAD_STEPS, len(batches)), recipe)
        finally:
            self.restore()

    def _best_thread_count(self) -> int:
        """On a busy machine several threads can be slower than one: try both."""
        most = torch.get_num_threads()
        if most == 1:
            return 1
        seconds = {}
        for count in (most, 1):
            torch.set_num_threads(count)
            seconds[count] = self._time_steps(evaluate=False)[0]
        return min(seconds, key=lambda count: seconds[count])

    def typical(self) -> Configuration:
        """What time and memory of a trial are judged by before any has run."""
        return dict(baselines(self.shape, 0, self.usual)).get(REFERENCE, Configuration((), 1e-3, quantisation=self.usual))

    def _time_steps(self, *, evaluate: bool = True) -> tuple[float, float]:
        """(seconds per training step, seconds per evaluation on the search split)."""
        configuration, recipe = self.typical(), self.recipe(CALIBRATION_STEPS + 1)
        batches = self.batches(recipe, seed=0)
        marks: list[float] = []
        self.build(configuration, seed=0)
        self.cast_frozen()
        try:
            train(
                self.model,
                lambda step: self._loss(batches[step]),
                recipe,
                0.0,
                [recipe.total_steps],
                lambda progress: True,
                lambda progress: marks.append(time.perf_counter()),
            )
            evaluation = 0.0
            if evaluate:
                part = self.search_set[: max(1, len(self.search_set) // 4)]
                start = time.perf_counter()
                self.predict(part)
                evaluation = (time.perf_counter() - start) * len(self.search_set) / len(part)
        finally:
            self.restore()
        return (marks[-1] - marks[0]) / (len(marks) - 1), evaluation

    def batches(self, recipe: Recipe, seed: int) -> list[list[int]]:
        return training_batches([e.length for e in self.train_set], recipe.batch_size, recipe.total_steps, seed)

    def batch(self, indices: Sequence[int]) -> Batch:
        return self.task.collate([self.train_set[i] for i in indices], self.model.pad_id, self.device)

    def _loss(self, indices: Sequence[int]) -> torch.Tensor:
        return self.task.loss(self.model, self.batch(indices))

    def predict(self, encoded: Any) -> Predictions:
        recipe = self.recipe(0)
        with autocast(recipe.device_type, recipe.precision):
            return self.task.predict(self.model, encoded, self.spec.training.evaluation_batch_size, self.device)

    def build(self, configuration: Configuration, seed: int) -> None:
        self.use(configuration.quantisation)
        self.blocks = transformer_blocks(self.model.backbone, self.shape)
        torch.manual_seed(seed)
        self.model.reset_head(seed)
        self.model.backbone = adapt(
            self.model.backbone,
            configuration,
            self.shape,
            task_type=self.model.task_type,
            modules_to_save=self.model.modules_to_save,
        ).to(self.device)
        self.model.open_head()
        if starts_from_data(configuration):
            recipe = self.recipe(START_BATCHES)
            batches = self.batches(recipe, seed)
            start(self.model.backbone, configuration, self.shape, [partial(self._loss, batch) for batch in batches])
        self.strategy = make_strategy(configuration, self.shape, seed)
        if self.strategy:
            self.strategy.attach(self.model)

    def cast_frozen(self) -> None:
        """For the training of what was built; weights that no backward pass meets are cast in passing, as ever."""
        if self.precision == "bf16" and self.spec.keep_casts and not self.strategy:
            depth = untouched_layers(self.model.adapter_parameters(), self.blocks)
            below = {id(module) for block in self.blocks[:depth] for module in block.modules()}
            self.casts.put_on(module for module in self.model.backbone.modules() if id(module) not in below)

    def restore(self) -> None:
        self.casts.take_off()
        if self.strategy:
            self.strategy.undo()
            self.strategy = None
        self.model.backbone = unadapt(self.model.backbone)
        for parameter in self.model.parameters():
            parameter.grad = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def run(
        self,
        trial: TrialSpec,
        at_rung: Callable[[Observation], bool],
        at_step: Callable[[int, float], None] = lambda step, loss: None,
        *,
        at_end: Callable[[Workbench], None] = lambda bench: None,
    ) -> Outcome:
        """Train one configuration; never raises for what a trial can do wrong.

        at_rung: gets the observation at each rung and says whether to go on.
        at_end: called with the trained model in place, before it is taken apart.
        """
        start = time.perf_counter()
        recipe = self.recipe(trial.rungs[-1])
        stopped_at: list[int] = []

        def measure(progress: Progress) -> bool:
            training_seconds = time.perf_counter() - start
            observation = self.observe(trial, recipe, progress, training_seconds)
            go_on = at_rung(observation)
            if not go_on and not observation.is_final:
                stopped_at.append(progress.step)
            return go_on

        try:
            self.build(trial.configuration, trial.seed)
            self.cast_frozen()
            batches = self.batches(recipe, trial.seed)
            with self.frozen.below(self.model, self.blocks, self.untouched_layers()):
                train(
                    self.model,
                    lambda step: self._loss(batches[step]),
                    recipe,
                    trial.configuration.learning_rate,
                    trial.rungs,
                    measure,
                    lambda progress: at_step(progress.step, progress.losses[-1][1]),
                    self.strategy,
                    trial.configuration.optimizer,
                )
            self.casts.take_off()
            if not stopped_at:
                at_end(self)
            state, reason = TrialState.COMPLETE, ""
            if stopped_at:
                state, reason = TrialState.EARLY_STOPPED, f"stopped at step {stopped_at[0]} of {recipe.total_steps}"
        except Exception as error:
            state, reason = ending(error)
        finally:
            self.restore()
        return Outcome(state, reason, time.perf_counter() - start)

    def observe(self, trial: TrialSpec, recipe: Recipe, progress: Progress, seconds: float) -> Observation:
        metric = self.spec.quality
        evaluation_start = time.perf_counter()
        measurements = {f"search.{metric}": self.task.score(metric, self.predict(self.search_set), self.search_set)}
        measurements["train_seconds"] = Measurement(seconds, "s")
        measurements["evaluation_seconds"] = Measurement(time.perf_counter() - evaluation_start, "s")
        if progress.step == recipe.total_steps:
            measurements[f"confirm.{metric}"] = self.task.score(metric, self.predict(self.confirm_set), self.confirm_set)
            stored = save_adapter(self.model, trial.configuration, Path(trial.save_to), self.strategy) if trial.save_to else None
            run = Run(progress.ends, stored, None if self.strategy and self.strategy.prunes else lambda: self.peak(recipe))
            measurements.update(self.strategy.measurements() if self.strategy else {})
            with self.frozen.pause(), self.casts.pause():
                values = [(objective, objective.measure(run)) for objective in measured().values()]
            measurements.update({o.name: Measurement(value, o.unit) for o, value in values if value is not None})
        return Observation(
            key=trial.configuration.key,
            seed=trial.seed,
            step=progress.step,
            total_steps=recipe.total_steps,
            recipe=recipe_hash(recipe),
            measurements=measurements,
            curve=tuple(progress.losses),
        )

    def longest_batch(self) -> list[int]:
        """The longest training examples there are."""
        return sorted(range(len(self.train_set)), key=lambda i: -self.train_set[i].length)[: self.spec.training.batch_size]

    def untouched_layers(self) -> int:
        """Layers whose work the running trial can share with others: those below the first adapted one, where
        nothing random happens in them and no strategy changes them."""
        if self.strategy or self.spec.training.base_dropout or not self.spec.share_frozen_layers:
            return 0
        return untouched_layers(self.model.adapter_parameters(), self.blocks)

    def peak(self, recipe: Recipe) -> int:
        """Peak memory of training steps on the reference batch, without what is shared.

        The steps have a learning rate of zero, so that the model stays as it is.
        """
        held = self.strategy.open_peak() if self.strategy else 0
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        order = self.longest_batch()
        self.model.train()
        resident = [*self.model.parameters(), *self.model.buffers()]
        if not parameters:
            return measure_peak(lambda: self._loss(order), self.device, resident)
        optimizer = make_optimizer(parameters, 0.0, 0.0)

        def step() -> None:
            train_step(lambda: self._loss(order), optimizer, parameters, recipe)

        return held + measure_peak(step, self.device, resident)


def recipe_hash(recipe: Recipe) -> str:
    """Twelve hexadecimal digits that are equal for equal recipes."""
    return sha256(repr(sorted(vars(replace(recipe)).items())).encode()).hexdigest()[:12]


def ending(error: Exception) -> tuple[TrialState, str]:
    """How a trial ends that an error ended, and the reason in words."""
    said = f"{error}".splitlines()[0] if str(error) else "allocation failed"
    if isinstance(error, Diverged):
        return TrialState.INFEASIBLE, f"diverged: {error}"
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return TrialState.INFEASIBLE, f"out of memory: {said}"
    if isinstance(error, RuntimeError) and ("not enough memory" in str(error) or "can't allocate" in str(error)):
        return TrialState.INFEASIBLE, f"out of memory: {said}"
    traceback.print_exception(error)
    return TrialState.FAILED, f"{type(error).__name__}: {error}".splitlines()[0]
