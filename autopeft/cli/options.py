"""Options that several commands share, and the specs and studies that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autopeft.errors import SpecError

if TYPE_CHECKING:
    from autopeft.spec import StudySpec
    from autopeft_searchspace.shape import ModelShape

Spec = Annotated[Path | None, typer.Argument(metavar="SPEC", help="Spec file, or a folder with a study.yaml.")]
Study = Annotated[Path, typer.Argument(metavar="STUDY", help="Study folder.")]
Model = Annotated[str | None, typer.Option("--model", help="Hugging Face id, folder, or package:MODULE/SUBPATH.")]
Data = Annotated[str | None, typer.Option("--data", help="Folder with train, validation and test files, one file, or a Hugging Face id.")]
Task = Annotated[str | None, typer.Option("--task", help="classification, regression or causal_lm; guessed from the data without a SPEC.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the study.")]
Budget = Annotated[str | None, typer.Option("--budget", help="e.g. 40trials, 30m, 2h, 4gpu-h or 40trials,30m; the first reached ends it.")]
MaxMemory = Annotated[str | None, typer.Option("--max-memory", help="Limit on the peak training memory, e.g. 24GB.")]
MaxParameters = Annotated[str | None, typer.Option("--max-parameters", help="Limit on trainable parameters, e.g. 1M or 1%.")]
Preset = Annotated[str | None, typer.Option("--preset", help="Search space; `autopeft spaces` lists them.")]
Sampler = Annotated[str | None, typer.Option("--sampler", help="pareto, tpe, nsga2, gp, random or tacl2024.")]
WarmStart = Annotated[
    list[Path] | None, typer.Option("--warm-start", metavar="STUDY", help="Earlier study to learn from; may be repeated.")
]
Types = Annotated[str | None, typer.Option("--adapters", help="Types to search, e.g. lora,ia3,bottleneck; `autopeft adapters` lists them.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...")]
Executor = Annotated[str | None, typer.Option("--executor", help="Who runs trials: local, packed or ray; executor.* in the spec say how.")]
Storage = Annotated[str | None, typer.Option("--storage", help="postgresql://user@host/database instead of a file in the study's folder.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the sampler and of every trial's training.")]
Pick = Annotated[str, typer.Option("--pick", help="best, knee, smallest-within-1se, a trial number, or a rule such as 'parameters<1%'.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SETTING=VALUE", help="Any setting, e.g. training.batch_size=16.")]


def given_spec(path: Path | None, sets: Sequence[str] | None, flags: dict[str, Any]) -> tuple[StudySpec, Path]:
    """The spec of a file with flags laid over it, or of flags alone; and the folder its paths start from."""
    from autopeft.spec_file import read_spec, spec_from_flags

    if path is not None:
        return read_spec(path, sets or (), flags=flags)
    model, data, task = flags.pop("--model"), flags.pop("--data"), flags.pop("--task")
    if model is None or data is None:
        lacking = " and no ".join(flag for flag, value in {"--model": model, "--data": data}.items() if value is None)
        raise SpecError(f"without a SPEC file --model and --data are needed; there is no {lacking}")
    if task is None:
        from autopeft.first_look import first_look

        task = first_look(data, Path()).task
    return spec_from_flags(model, data, task, sets or (), flags=flags)


def shape_of(model: str) -> ModelShape:
    """Layers and module roles of a base model, without reading its weights."""
    from autopeft.models.shape import load_shape
    from autopeft.spec import ModelSpec

    return load_shape(ModelSpec(base=model), Path())
