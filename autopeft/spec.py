"""What a study is: the schema of `study.yaml`. Frozen, checked when built, no torch.

Paths are relative to the folder of the spec file (`spec_file.read` makes them absolute).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from autopeft.errors import near

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "matthews"),
    "regression": ("pearson", "spearman"),
    "causal_lm": ("token_nll", "exact_match"),
}
"""Metrics per kind of task; the first is the default."""

DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "accuracy": "maximize",
    "macro_f1": "maximize",
    "matthews": "maximize",
    "pearson": "maximize",
    "spearman": "maximize",
    "token_nll": "minimize",
    "exact_match": "maximize",
    "trainable_parameters": "minimize",
    "peak_memory_bytes": "minimize",
    "mean_trained_parameters": "minimize",
    "base_parameters": "minimize",
}
USUAL = ("trainable_parameters", "peak_memory_bytes")
"""Objectives beside quality where a spec names none."""

COMPUTED = (*USUAL, "mean_trained_parameters", "base_parameters")
"""Objectives known before training. The last two tell layer strategies apart."""

COUNTS = ("trainable_parameters", "mean_trained_parameters", "base_parameters")
"""Of these, numbers of weights."""

UNITS = {**dict.fromkeys(COUNTS, "parameters"), "peak_memory_bytes": "bytes", "token_nll": "nats"}


PROBE = "probe"
"""The value of `importance` that is no study's folder."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(Part):
    base: str = Field(description="Hugging Face id, folder, or package:MODULE/SUBPATH for weights inside an installed package")
    head: Literal["auto", "mean", "own"] = Field(
        "auto", description="task head: 'mean' pools the last hidden states, 'own' is the model's, 'auto' takes mean for encoders"
    )
    roles: dict[str, str] = Field(
        default_factory=dict, description="role -> name of the module inside a layer, for architectures that are not recognised"
    )
    trust_remote_code: bool = Field(False, description="run code that comes with the model; recorded in the study")


class TaskSpec(Part):
    kind: Literal["classification", "regression", "causal_lm"]
    metric: str = Field("", description="quality measured on validation data; the task's first metric by default")
    answer_pattern: str = Field(
        r"####\s*(.+)", description="causal_lm: the group of this regular expression is the answer that exact_match compares"
    )
    max_new_tokens: int = Field(128, ge=1, description="causal_lm: length of generated answers")

    @model_validator(mode="after")
    def _metric_of_this_kind(self) -> TaskSpec:
        names = METRICS[self.kind]
        if not self.metric:
            object.__setattr__(self, "metric", names[0])
        if self.metric not in names:
            raise ValueError(f"metric of {self.kind} must be one of {', '.join(names)}, it is {self.metric!r}{near(self.metric, names)}")
        try:
            groups = re.compile(self.answer_pattern).groups
        except re.error as error:
            raise ValueError(f"answer_pattern is no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"answer_pattern must have one group, {self.answer_pattern!r} has {groups}")
        return self


class DataSpec(Part):
    source: str = Field("", description="folder with train, validation and test files, one file, or a Hugging Face data set id")
    subset: str = Field("", description="configuration name of a Hugging Face data set")
    train: str = Field("", description="training file, where no source is given")
    validation: str = Field("", description="validation file; drawn from train where there is none")
    test: str = Field("", description="test file; touched by `autopeft train` alone")
    columns: dict[Literal["text", "text_pair", "label", "prompt", "completion"], str] = Field(
        default_factory=dict, description="our name -> name in the data; by default they are the same"
    )
    max_length: int = Field(128, ge=4, description="tokens per example; longer ones are cut")
    train_examples: int | None = Field(None, ge=1, description="use this many training examples, drawn by split_seed")
    validation_share: float = Field(0.15, gt=0, lt=1, description="share of train held out where there is no validation file")
    confirm_share: float = Field(0.5, gt=0, lt=1, description="share of validation kept for confirming picks")
    split_seed: int = 0

    @model_validator(mode="after")
    def _some_source(self) -> DataSpec:
        if bool(self.source) == bool(self.train):
            raise ValueError("give either data.source or data.train")
        return self


class SpaceSpec(Part):
    preset: str = "default"
    change: dict[str, Any] = Field(default_factory=dict, description="dimensions restricted or fixed, e.g. lora.size: [0, 4, 8]")


class ObjectiveSpec(Part):
    name: str
    direction: Literal["maximize", "minimize"]


class ConstraintSpec(Part):
    maximum_parameters: str | int | None = Field(None, description="a number such as 100000 or 1M, or a share of the base such as 1%")
    maximum_memory: str | int | None = Field(None, description="peak training memory, e.g. 24GB")


class FidelitySpec(Part):
    steps: int | Literal["auto"] = Field("auto", description="optimiser steps of a full trial; auto fits the trials to the time budget")
    epochs: float = Field(1.0, gt=0, description="passes over the training data that steps: auto aims at, and may not exceed")
    rungs: Literal["auto"] | list[float] = Field(
        "auto", description="shares of the steps after which a trial may be stopped; [] for none; auto is a third, a half below 500 steps"
    )

    @field_validator("rungs")
    @classmethod
    def _inside(cls, rungs: Literal["auto"] | list[float]) -> Literal["auto"] | list[float]:
        if rungs != "auto" and (sorted(set(rungs)) != rungs or not all(0 < r < 1 for r in rungs)):
            raise ValueError(f"rungs must be ascending shares between 0 and 1, they are {rungs}")
        return rungs


class TrainSpec(Part):
    batch_size: int = Field(32, ge=1)
    evaluation_batch_size: int = Field(128, ge=1)
    warmup_share: float = Field(0.06, ge=0, lt=1, description="share of the steps over which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    base_dropout: bool = Field(False, description="dropout of the frozen base model; off lets trials share work")


class SeedSpec(Part):
    search: int = Field(0, description="of the sampler and of every trial's training")
    replicates: int = Field(2, ge=0, description="further training seeds for the picks when the search ends")


class ExecutorSpec(Part):
    name: Literal["local", "packed", "ray"] = Field(
        "local",
        description="who runs trials: child processes of this machine; the same, each training several trials in one model; a Ray cluster",
    )
    graphs: bool = Field(True, description="packed: on a GPU, record steps that recur as CUDA graphs and launch them as a whole")
    cores: int = Field(1, ge=1, description="ray: CPU cores per trial")
    gpus: float = Field(1.0, gt=0, description="ray: GPUs per trial where there are GPUs; below 1, several trials share one")
    trials: int | None = Field(None, ge=1, description="ray: at most this many trials at once")
    address: str = Field("", description="ray: the cluster, e.g. auto or ray://head:10001; RAY_ADDRESS or this machine by default")


class StudySpec(Part):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    model: ModelSpec
    task: TaskSpec
    data: DataSpec
    space: SpaceSpec = SpaceSpec()
    objectives: tuple[ObjectiveSpec, ...] = ()
    constraints: ConstraintSpec = ConstraintSpec()
    fidelity: FidelitySpec = FidelitySpec()
    training: TrainSpec = TrainSpec()
    budget: str = Field("40trials", description="e.g. 40trials, 30m, 2h, 4gpu-h, or several; the first reached ends the search")
    seeds: SeedSpec = SeedSpec()
    sampler: Literal["pareto", "tpe", "nsga2", "gp", "random", "tacl2024", "transfer"] = "pareto"
    warm_start: tuple[str, ...] = Field(
        (), description="folders of earlier studies: their fronts are tried first, their results learnt from"
    )
    baselines: bool = Field(True, description="run the known defaults first")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 ...")
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="trials at once on each device; auto is one on a GPU and up to four on a CPU, as cores and memory allow; "
        "in one model with executor packed, there as many as memory and throughput allow",
    )
    importance: str = Field(
        "",
        description="where the search looks first: 'probe' orders layers and roles by gradients on a few batches, a study's folder by "
        "what its runs under IST or Light-PEFT found; empty for neither",
    )
    share_frozen_layers: bool = Field(
        True, description="keep what the layers below the first adapted one compute and share it between trials; numbers are the same"
    )
    keep_casts: bool = Field(
        True, description="in bf16, cast the frozen weights once for a trial and not in every step; numbers are the same"
    )
    executor: ExecutorSpec = ExecutorSpec()
    storage: str = Field("", description="postgresql://user@host/database instead of a file in the study's folder; no password in it")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto is bf16 where the device does it well")

    @field_validator("storage")
    @classmethod
    def _address_without_password(cls, storage: str) -> str:
        if storage and not re.match(r"postgresql(\+psycopg)?://", storage):
            raise ValueError(f"storage must be like postgresql://user@host/database, it is {storage.partition('@')[2] or storage!r}")
        if re.match(r"[^/]*//[^@]*:[^@]*@", storage) or "password=" in storage:
            raise ValueError("storage is kept in the study's folder and must not hold a password; put it into PGPASSWORD or ~/.pgpass")
        return storage

    @model_validator(mode="after")
    def _packs_exactly(self) -> StudySpec:
        if self.executor.name == "packed" and self.training.base_dropout:
            raise ValueError("executor packed needs training.base_dropout: false, since trials that share a model would share its dropout")
        return self

    @model_validator(mode="after")
    def _objectives(self) -> StudySpec:
        if not self.objectives:
            default = (self.task.metric, *USUAL)
            object.__setattr__(self, "objectives", tuple(ObjectiveSpec(name=n, direction=DIRECTIONS[n]) for n in default))
        names = tuple(o.name for o in self.objectives)
        allowed = (self.task.metric, *COMPUTED)
        for objective in self.objectives:
            if objective.name not in allowed:
                raise ValueError(f"objective must be one of {', '.join(allowed)}, it is {objective.name!r}{near(objective.name, allowed)}")
            if objective.direction != DIRECTIONS[objective.name]:
                raise ValueError(f"objective {objective.name} must be {DIRECTIONS[objective.name]}d, direction is {objective.direction}")
        if names[0] != self.task.metric or len(set(names)) != len(names) or len(names) < 2:
            raise ValueError(
                f"objectives must be the metric {self.task.metric} first, then one or more of {', '.join(COMPUTED)}; "
                f"they are {', '.join(names)}"
            )
        if self.sampler == "transfer" and not self.warm_start:
            raise ValueError("sampler transfer tries the fronts of earlier studies: name their folders under warm_start")
        return self

    @property
    def quality(self) -> str:
        """Name of the metric that is the first objective."""
        return self.task.metric


def json_schema() -> dict[str, Any]:
    """JSON Schema of `study.yaml`, for editors."""
    return StudySpec.model_json_schema()


def resolve(path: str, folder: Path) -> str:
    """`path` made absolute against the spec's folder where such a file exists, else unchanged."""
    candidate = folder / Path(path).expanduser()
    return str(candidate.resolve()) if path and candidate.exists() else path
