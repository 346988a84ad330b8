"""Predictions for one study: traces kept in a file, the fast model fitted to some of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from autopeft import files
from autopeft.data import Splits
from autopeft.device import autocast
from autopeft.layerwise import make_strategy
from autopeft.memory.model import TRAINED_BYTES, Features, MemoryModel, Spots, block_features, blocks_of
from autopeft.memory.packs import predict_pack
from autopeft.models.quantised import NONE, Quantisation
from autopeft.models.roles import transformer_blocks
from autopeft.spec import StudySpec
from autopeft.tasks import Encoded, Task, task_for
from autopeft.tracing import MemoryEstimate, Trace, trace_step
from autopeft.training import Recipe, make_optimizer, train_step
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import clash, traced, trainable_parameters
from autopeft_searchspace.space import Space
from autopeft_searchspace.strategies import layers_at_peak, strategy_type

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from autopeft.models.head import TaskModel

FILE = "memory.json"
TRACED_BLOCKS = 4
"""Adapted blocks in a trace for the fast model; blocks are alike, and each costs time."""
DRAWN = 400
CANDIDATES = 256
ROWS_PER_FEATURE = 1.5
"""Traced blocks for each feature of the fast model."""
RIDGE = 1e-6
HEAD_ONLY = Configuration((), 1.0)
FULL = "full"
WEIGHT_BYTES = 4
DECIDE_MEMORY = ("active", "layers", "drop_state")
"""Settings of layer strategies that memory depends on."""


class MemoryPredictor:
    """Raises ModelError where the base model cannot be built.

    recipe: the reference: device type, precision, batch size and longest example count.
    labels: of the task, for the size of its head.
    cache: folder of the file that keeps traces and the fast model. folder: what relative paths in the
        spec start from; the cache by default. A file made for another model, recipe, space or version
        is replaced.
    """

    def __init__(
        self, spec: StudySpec, space: Space, recipe: Recipe, labels: Sequence[str], cache: Path, folder: Path | None = None
    ) -> None:
        self.spec, self.space, self.recipe = spec, space, recipe
        self._folder = cache if folder is None else folder
        self._path = cache / FILE
        self._key = _identity(spec, space, recipe, labels)
        self._labels = tuple(labels)
        self._spots = Spots(space.shape)
        self._exact: dict[str, MemoryEstimate] = {}
        self._model: MemoryModel | None = None
        self._loaded: tuple[Task, Any] | None = None
        self._read()

    def exact(self, configuration: Configuration) -> MemoryEstimate:
        """The traced step of a configuration; about a second the first time, then from the file."""
        key = _key(configuration)
        if key not in self._exact:
            self._exact[key] = self._trace(configuration).estimate
            self._write()
        return self._exact[key]

    def prepare(self, configurations: Iterable[Configuration]) -> None:
        """Trace these now."""
        for configuration in configurations:
            self.exact(configuration)

    def head_only(self) -> MemoryEstimate:
        return self.exact(HEAD_ONLY)

    def full(self) -> MemoryEstimate:
        """Full fine-tuning: every weight of the base model trains."""
        if FULL not in self._exact:
            self._exact[FULL] = self._trace(None).estimate
            self._write()
        return self._exact[FULL]

    def fast(self, configuration: Configuration) -> float:
        """Peak memory in bytes by the fast model, which is fitted on first use (some twenty traces). Of a layer
        strategy the step that takes most; one without adapters is traced, since there are few of them."""
        strategy = configuration.strategy
        if configuration.quantisation != NONE:
            return self.fast(replace(configuration, quantisation=NONE)) - self._saved(configuration.quantisation)
        if strategy is None:
            return self.model.predict(configuration, self._spots, self.space.shape)
        if not configuration.components:
            return float(self.exact(configuration).peak)
        layers = sorted({layer for component in configuration.components for layer in component.layers})
        chosen = set(layers_at_peak(strategy, layers))
        parts = (replace(c, layers=tuple(layer for layer in c.layers if layer in chosen)) for c in configuration.components)
        at_once = replace(configuration, components=tuple(c for c in parts if c.layers), strategy=None)
        frozen = trainable_parameters(configuration, self.space.shape) - trainable_parameters(at_once, self.space.shape)
        kind = strategy_type(strategy.name)
        each = WEIGHT_BYTES if strategy.settings.get("drop_state") or kind.topmost else TRAINED_BYTES
        masked = self._masked_bytes() if kind.prunes else 0
        return self.model.predict(at_once, self._spots, self.space.shape) + each * frozen + masked

    def pack(self, configurations: Sequence[Configuration], base_bytes: int) -> float:
        """Peak memory in bytes of trials that train side by side (`memory.packs`). base_bytes: of the base model's weights."""
        casts = self.recipe.precision == "bf16"
        return predict_pack(self.model, configurations, self._spots, self.space.shape, base_bytes, casts=casts)

    def _saved(self, quantisation: str) -> int:
        """Bytes by which the weights of a base model that is so quantised are smaller."""
        return self.head_only().weights - self.exact(replace(HEAD_ONLY, quantisation=quantisation)).weights

    def _masked_bytes(self) -> int:
        """What learnable masks add: of every layer the masked inputs of `o` and `ff_out` stay for the backward pass."""
        features = sum(module.d_in for role in ("o", "ff_out") for module in self.space.shape.modules[role])
        width = 2 if self.recipe.precision == "bf16" else 4
        return width * self.recipe.batch_size * self.recipe.longest * features

    @property
    def model(self) -> MemoryModel:
        if self._model is None:
            chosen = [HEAD_ONLY, *design(self.space, self._spots)]
            traces = [(configuration, self._trace(configuration, spans=True)) for configuration in chosen]
            self._model = MemoryModel.fit(traces, self.space.shape)
            self._exact |= {_key(configuration): trace.estimate for configuration, trace in traces}
            self._write()
        return self._model

    def _trace(self, configuration: Configuration | None, *, spans: bool = False) -> Trace:
        """configuration: None for full fine-tuning."""
        from autopeft.models.load import load_task_model, load_tokenizer
        from autopeft_searchspace.build import adapt

        if self._loaded is None:
            self._loaded = task_for(self.spec.task, _stand_in(self._labels)), load_tokenizer(self.spec.model, self._folder)
        task, tokenizer = self._loaded
        quantisation = Quantisation(configuration.quantisation if configuration else NONE)
        model = load_task_model(
            self.spec, task, self._folder, tokenizer, weights=False, attention=self.recipe.attention, quantisation=quantisation
        )
        blocks = transformer_blocks(model.backbone, self.space.shape) if spans else []
        held = 0
        if configuration is None:
            model.requires_grad_(True)
        else:
            model.backbone = adapt(
                model.backbone,
                traced(configuration, self.space.shape),
                self.space.shape,
                task_type=model.task_type,
                modules_to_save=model.modules_to_save,
            )
            model.open_head()
            if strategy := make_strategy(configuration, self.space.shape, 0):
                strategy.attach(model)
                held = strategy.open_peak()
        recipe = replace(self.recipe, device_type="cpu")
        loss = _reference_loss(task, model, recipe)

        def step(optimizer: Optimizer | None, parameters: list[nn.Parameter]) -> None:
            if optimizer:
                train_step(loss, optimizer, parameters, recipe)
            else:  # no task head and no adapter: nothing to train, and predictions keep nothing
                with torch.no_grad(), autocast(recipe.device_type, recipe.precision):
                    loss()

        trace = trace_step(
            model,
            step,
            lambda parameters: make_optimizer(parameters, 0.0, recipe.weight_decay),
            self.recipe.device_type,
            blocks,
        )
        estimate = trace.estimate
        return replace(trace, estimate=replace(estimate, optimizer=estimate.optimizer + held, peak=estimate.peak + held))

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if not isinstance(found, dict) or found.get("made_for") != self._key:
            return
        self._exact = {key: MemoryEstimate(**estimate) for key, estimate in found["exact"].items()}
        self._model = MemoryModel.from_json(found["model"]) if found["model"] else None

    def _write(self) -> None:
        exact = {key: estimate.to_json() for key, estimate in sorted(self._exact.items())}
        files.write_json(self._path, {"made_for": self._key, "model": self._model and self._model.to_json(), "exact": exact})


def design(space: Space, spots: Spots) -> list[Configuration]:
    """Configurations to trace for the fast model: the same for the same space.

    Of `CANDIDATES` drawn ones those that together tell the effects of the features apart best: each
    next one adds most to log det(X'X), X the features of all blocks traced so far, until there are
    `ROWS_PER_FEATURE` blocks for each feature. What the last block keeps is not seen, so it does not
    count.
    """
    candidates = list(_candidates(space, spots))
    rows = [_seen_whole(blocks_of(c, space.shape.layers, spots)) for c in candidates]
    names = sorted({name for blocks in rows for block in blocks for name in block})
    features = [np.array([[block.get(name, 0.0) for name in names] for block in blocks]) for blocks in rows]
    scale = np.concatenate(features).max(axis=0)
    inverse = np.eye(len(names)) / RIDGE
    left = list(range(len(candidates)))
    chosen: list[Configuration] = []
    seen = 0
    while left and seen < ROWS_PER_FEATURE * len(names):
        gains = []
        for i in left:
            x = features[i] / scale
            gains.append(float(np.linalg.slogdet(np.eye(len(x)) + x @ inverse @ x.T)[1]))
        best = left.pop(int(np.argmax(gains)))
        x = features[best] / scale
        inverse -= inverse @ x.T @ np.linalg.solve(np.eye(len(x)) + x @ inverse @ x.T, x @ inverse)
        seen += len(x)
        chosen.append(candidates[best])
    return chosen


def _seen_whole(blocks: Mapping[int, Features]) -> list[Features]:
    """All but the last block, where there are others."""
    return list(blocks.values())[:-1] or list(blocks.values())


def _candidates(space: Space, spots: Spots) -> Iterator[Configuration]:
    """Drawn from the space, then taken apart: each has up to three components in random blocks of their
    own among the last `TRACED_BLOCKS`, and every way to be the lowest adapter of a block comes first
    in some of them."""
    rng = np.random.default_rng(0)
    drawn: dict[str, list[Component]] = {}
    by_lowest: dict[str, list[Component]] = {}
    for _ in range(DRAWN):
        for component in space.configuration(space.sample(rng)).components:
            drawn.setdefault(component.type, []).append(component)
            way = next(name for name in block_features([component], spots, True) if name.startswith("lowest"))
            by_lowest.setdefault(way, []).append(component)
    ways = sorted(by_lowest)
    layers = space.shape.layers
    first = max(int(layers > TRACED_BLOCKS), layers - TRACED_BLOCKS)
    above = list(range(first + 1, layers))
    for i in range(CANDIDATES):
        lowest = _one_of(by_lowest[ways[i % len(ways)]], rng)
        components = [replace(lowest, layers=(first, *_some(above, rng)))]
        others = [name for name in sorted(drawn) if name != lowest.type]
        for name in rng.permutation(others)[: space.maximum_components - 1].tolist() if above else []:
            added = replace(_one_of(drawn[name], rng), layers=_some(above, rng) or (above[-1],))
            if clash([*components, added], space.shape) is None:
                components.append(added)
        yield Configuration(tuple(components), 1.0)


def _one_of(components: Sequence[Component], rng: np.random.Generator) -> Component:
    return components[int(rng.integers(len(components)))]


def _some(layers: Sequence[int], rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(layer for layer in layers if rng.random() < 0.5)


def _reference_loss(task: Task, model: TaskModel, recipe: Recipe) -> Callable[[], Any]:
    """Loss of the reference batch: `batch_size` examples as long as the longest."""
    counted = recipe.counted if model.head_kind == "causal_lm" else 0
    examples = [Encoded((0,) * recipe.longest, 0, completion=counted)] * recipe.batch_size
    return lambda: task.loss(model, task.collate(examples, model.pad_id, "cpu"))


def _stand_in(labels: Sequence[str]) -> Splits:
    """Data that a task can be made from, where only its kind and labels matter."""
    return Splits(({"label": 0.0}, {"label": 1.0}), (), (), (), tuple(labels), "")


def _key(configuration: Configuration) -> str:
    """Of what decides memory: the learning rate does not, nor how layers are chosen."""
    strategy = configuration.strategy
    if strategy:
        strategy = replace(strategy, settings={name: value for name, value in strategy.settings.items() if name in DECIDE_MEMORY})
    return replace(configuration, learning_rate=1.0, strategy=strategy).key


def _identity(spec: StudySpec, space: Space, recipe: Recipe, labels: Sequence[str]) -> str:
    """Hash of everything predictions depend on."""
    parts = {
        "versions": {name: metadata.version(name) for name in ("autopeft", "torch", "transformers", "peft")},
        "model": spec.model.model_dump(mode="json"),
        "shape": space.shape.to_json(),
        "task": spec.task.kind,
        "outputs": len(labels),
        "device": recipe.device_type,
        "recipe": [recipe.precision, recipe.batch_size, recipe.longest, recipe.counted, recipe.base_dropout, recipe.attention],
        "space": [[d.name, list(d.values)] for d in space.dimensions],
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
