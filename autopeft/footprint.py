"""Memory of training one configuration on any base model, from the model's config alone: by part, and the
largest batch or adapter size that fits a card. Needs neither weights nor a tokeniser nor a GPU.

The step is the one that `tracing` follows, with examples of the given length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from autopeft.baselines import baselines
from autopeft.errors import AutopeftError, ModelError, SpecError, near
from autopeft.models.load import load_task_model, resolve_base
from autopeft.models.quantised import NONE, Quantisation
from autopeft.models.roles import find_shape
from autopeft.spec import StudySpec
from autopeft.tasks import Encoded, task_for
from autopeft.tracing import MemoryEstimate, trace_step
from autopeft.training import Recipe, make_optimizer, train_step
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import QUANTISATIONS, Component, Configuration
from autopeft_searchspace.registry import adapter_type, adapter_types
from autopeft_searchspace.rules import check
from autopeft_searchspace.shape import ModelShape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from autopeft.models.head import TaskModel
    from autopeft.tasks import Task

LABELS = 2
MOST = 2**20
"""Batches and sizes are not looked for above this."""


@dataclass(frozen=True)
class Setting:
    """What memory depends on beside the configuration. length: tokens of every example. weights: type in
    which the frozen base model is kept, `fp32`, `bf16`, or for its linear modules alone a quantisation; weights that train are in
    `fp32` then. precision: of the computation, `fp32` or `bf16`."""

    batch_size: int = 32
    length: int = 128
    device_type: str = "cuda"
    precision: str = "bf16"
    weights: str = "fp32"


class Footprints:
    """Traces of one base model.

    base: Hugging Face id, folder, config.json, or package:MODULE/SUBPATH. kind: of the task; `causal_lm`
    for decoders and `classification` for the rest where it is "". parameters: of the whole model, its
    vocabulary head included. Raises ModelError where there is no config.
    """

    def __init__(self, base: str, kind: str = "", folder: Path = Path()) -> None:
        path = Path(base)
        if path.name == "config.json":
            base = str(path.parent.resolve())
        self._folder, self._base = folder, resolve_base(base, folder)
        self.kind = kind or self._guess()
        self._spec = StudySpec.model_validate(
            {"name": "footprint", "model": {"base": self._base}, "task": {"kind": self.kind}, "data": {"train": "none", "max_length": 4}}
        )
        self._task, self._tokenizer = _task(self._spec), _tokenizer()
        backbone = self._load().backbone
        self.shape: ModelShape = find_shape(backbone)
        self.parameters = sum(parameter.numel() for parameter in backbone.parameters())

    def _guess(self) -> str:
        from transformers import AutoConfig
        from transformers.models.auto import modeling_auto as auto

        try:
            kind = AutoConfig.from_pretrained(self._base).model_type
        except (OSError, ValueError) as error:
            raise ModelError(f"no config of base model {self._base!r}: {error}") from error
        speaks = kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        return "causal_lm" if speaks else "classification"

    def _load(self, quantisation: str = NONE) -> TaskModel:
        wanted = Quantisation(quantisation)
        return load_task_model(self._spec, self._task, self._folder, self._tokenizer, weights=False, quantisation=wanted)

    def trace(self, configuration: Configuration | None, setting: Setting) -> MemoryEstimate:
        """configuration: None for full fine-tuning. ModelError where the model cannot take it or the length."""
        quantisation = NONE
        if configuration is not None:
            asked = setting.weights if setting.weights in QUANTISATIONS else NONE
            quantisation = asked if configuration.quantisation == NONE else configuration.quantisation
        model = self._load(quantisation)
        most = getattr(model.backbone.config, "max_position_embeddings", None) or MOST
        if setting.length > most:
            raise ModelError(f"length must be at most {most}, which {self._base!r} can take; it is {setting.length}")
        if setting.weights == "bf16":
            model.backbone.to(torch.bfloat16)
        if configuration is None:
            model.requires_grad_(True)
        else:
            model.backbone = adapt(
                model.backbone, configuration, self.shape, task_type=model.task_type, modules_to_save=model.modules_to_save
            )
            model.open_head()
        counted = setting.length // 2 if self.kind == "causal_lm" else 0
        recipe = _recipe(setting, counted)
        examples = [Encoded((0,) * setting.length, 0, completion=counted)] * setting.batch_size

        def step(optimizer: torch.optim.Optimizer | None, parameters: list[torch.nn.Parameter]) -> None:
            def loss() -> Any:
                return self._task.loss(model, self._task.collate(examples, model.pad_id, "cpu"))

            if optimizer is not None:
                train_step(loss, optimizer, parameters, replace(recipe, device_type="cpu"))
                return
            with torch.no_grad():
                loss()

        return trace_step(model, step, lambda parameters: make_optimizer(parameters, 0.0, 0.01), setting.device_type).estimate

    def largest_batch(self, configuration: Configuration, setting: Setting, limit: int) -> tuple[int, int]:
        """(largest batch whose peak is within `limit` bytes, that peak); (0, peak of one example) where none is."""
        return largest(lambda n: self.trace(configuration, replace(setting, batch_size=n)).peak, limit, setting.batch_size)

    def largest_size(self, component: Component, setting: Setting, limit: int) -> tuple[int, int]:
        """(largest size of the component whose peak is within `limit` bytes, that peak), up to the base model's width."""

        def peak(size: int) -> int:
            made = component_of(component.type, size, component.roles, component.layers, self.shape)
            return self.trace(Configuration((made,), 1e-3), setting).peak

        return largest(peak, limit, component.size, self.shape.width)


def largest(peak: Callable[[int], int], limit: int, start: int, most: int = MOST) -> tuple[int, int]:
    """(largest n >= 1 with peak(n) <= limit, its peak), where `peak` never falls; (0, peak(1)) where there is none.

    Secants from what is known on both sides, since peaks are close to straight lines: five or six calls then.
    """
    known = {1: peak(1)}
    if known[1] > limit:
        return 0, known[1]
    low, high, guess = 1, most + 1, min(max(start, 2), most)
    while high - low > 1:
        known[guess] = peak(guess)
        low, high = (guess, high) if known[guess] <= limit else (low, guess)
        known_high = high if high in known else max(k for k in known if k < low) if low > 1 else None
        if high - low <= 1:
            break
        if known_high is None:
            guess = min(2 * low, high - 1)
            continue
        slope = (known[known_high] - known[low]) / (known_high - low)
        ahead = int((limit - known[low]) / slope) if slope > 0 else high - low
        guess = min(max(low + ahead, low + 1), high - 1)
    return low, known[low]


def component_of(type: str, size: int, roles: Sequence[str], layers: Sequence[int], shape: ModelShape) -> Component:
    """A component with the first value of every further option. SpecError where the type or model cannot take it."""
    known = adapter_types()
    if type not in known:
        raise SpecError(f"unknown adapter type {type!r}{near(type, known)}")
    adapter = known[type]
    if reason := adapter.unavailable(shape):
        raise SpecError(f"{type} cannot go on this model: {reason}")
    values: dict[str, Any] = {d.name: d.values[0] for d in adapter.dimensions(shape)}
    offered = [name for name in values if name.startswith(f"{type}.roles.")]
    if roles and (unknown := [r for r in roles if f"{type}.roles.{r}" not in offered]):
        names = [name.rpartition(".")[2] for name in offered]
        raise SpecError(
            f"{type} has no module role {unknown[0]!r} on this model{near(unknown[0], names)}; it has {', '.join(names) or 'none'}"
        )
    values |= {name: not roles or name.rpartition(".")[2] in roles for name in offered}
    made = adapter.component({**values, f"{type}.size": size}, tuple(layers), shape)
    if made is None:
        raise SpecError(f"{type} of size {size} is no adapter; sizes start at 1")
    try:
        check(Configuration((made,), 1e-3), shape)
    except ValueError as error:
        raise SpecError(str(error)) from error
    return made


def parse_adapter(text: str, shape: ModelShape) -> Component:
    """`TYPE:SIZE[:ROLES[:LAYERS]]`, e.g. `lora:16`, `lora:8:q,v` or `lora:8:q,v:0-5,11`; without them all roles and layers."""
    match = re.fullmatch(r"([\w-]+):(\d+)(?::([\w,]*))?(?::([\d,-]*))?", text.strip())
    if match is None:
        raise SpecError(f"an adapter is TYPE:SIZE[:ROLES[:LAYERS]], for example lora:8:q,v:0-5; it is {text!r}")
    type, size, roles, layers = match.groups()
    return component_of(type, int(size), [r for r in (roles or "").split(",") if r], _layers(layers or "", shape.layers), shape)


def _layers(text: str, count: int) -> tuple[int, ...]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if low > high or high >= count:
            raise SpecError(f"layers are numbers and ranges from 0 to {count - 1}, such as 0-5,11; they are {text!r}")
        found |= set(range(low, high + 1))
    return tuple(sorted(found)) or tuple(range(count))


def configuration_of(adapters: Sequence[str], file: Path | None, shape: ModelShape) -> Configuration | None:
    """The configuration that `--adapter` and `--configuration` give; None where neither is given."""
    if adapters and file:
        raise SpecError("give either --adapter or --configuration")
    if file is not None:
        try:
            return Configuration.from_json(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpecError(f"{file} holds no configuration: {error}") from error
    if not adapters:
        return None
    made = tuple(parse_adapter(text, shape) for text in adapters)
    return Configuration(made, adapter_type(made[0].type).default_learning_rate(made[0], shape))


def defaults(shape: ModelShape) -> list[tuple[str, Configuration | None]]:
    """(name, configuration) of the known defaults, and full fine-tuning as None."""
    return [*baselines(shape, 0), ("full fine-tuning", None)]


def _task(spec: StudySpec) -> Task:
    from autopeft.data import Splits

    labels = tuple(map(str, range(LABELS))) if spec.task.kind == "classification" else ()
    return task_for(spec.task, Splits(({"label": 0.0}, {"label": 1.0}), (), (), (), labels, ""))


def _tokenizer() -> PreTrainedTokenizerBase:
    """Stands in for the model's own, of which only the padding token matters here."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<pad>")


def _recipe(setting: Setting, counted: int) -> Recipe:
    plain = ("fp32", "bf16")
    for name, known in (("precision", plain), ("weights", (*plain, *QUANTISATIONS[1:]))):
        if getattr(setting, name) not in known:
            raise AutopeftError(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, it is {getattr(setting, name)!r}")
    length, precision = setting.length, setting.precision
    return Recipe("", "", "", "", length, length, setting.device_type, precision, setting.batch_size, 1, 0.0, 0.01, 1.0, False, counted)
