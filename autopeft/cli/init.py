"""`autopeft init`: a commented study.yaml for a model and a data set."""

from __future__ import annotations

import os
import shlex
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb
from autopeft.errors import SpecError

if TYPE_CHECKING:
    from autopeft.first_look import FirstLook

Model = Annotated[str, typer.Option("--model", help="Hugging Face id, folder, or package:MODULE/SUBPATH.")]
Data = Annotated[str, typer.Option("--data", help="Folder with train, validation and test files, one file, or a Hugging Face id.")]
Where = Annotated[Path, typer.Option("--output", help="File to write; never one that exists.")]


@verb
def init(
    out: Output,
    model: Model,
    data: Data,
    task: options.Task = None,
    name: options.Name = None,
    budget: options.Budget = None,
    output: Where = Path("study.yaml"),
) -> None:
    """Write a commented study.yaml.

    The data are read and checked, and the task is guessed from their columns.
    """
    from autopeft.data import read_data
    from autopeft.first_look import first_look
    from autopeft.spec_file import relocate, spec_from_flags

    if output.exists():
        raise SpecError(f"{output} exists and is not overwritten; give another file with --output")
    look = first_look(data, Path())
    sets = [f"data.columns.{ours}={theirs}" for ours, theirs in look.columns.items()]
    spec, folder = spec_from_flags(model, data, task or look.task, sets, flags={"--name": name, "--budget": budget}, environ={})
    splits = read_data(spec.data, spec.task, folder)
    near = relocate(spec, folder, output.parent)
    base = model if Path(model).is_absolute() else near.model.base
    source = data if Path(data).is_absolute() else near.data.source
    text = template(spec.name, base, source, spec.task.kind, spec.task.metric, spec.budget, look)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("x", encoding="utf-8") as file:
        file.write(text)

    counts = ", ".join(f"{count} {split}" for split, count in splits.counts.items() if count)
    then = f"autopeft search {shlex.quote(os.fspath(output))}"
    labels = f", {len(splits.labels)} labels" if splits.labels else ""
    out.result(
        {"spec": os.fspath(output), "task": spec.task.kind, "columns": dict(spec.data.columns), "counts": splits.counts, "next": then},
        f"wrote   {output}\ntask    {spec.task.kind}{labels}\ndata    {counts} ({splits.drawn})\nnext    {then}",
    )


def template(name: str, model: str, data: str, task: str, metric: str, budget: str, look: FirstLook) -> str:
    """The commented spec, values quoted as YAML needs it and comments in one column."""
    from autopeft.marked_yaml import write_value
    from autopeft.spec import DIRECTIONS, METRICS, USUAL

    columns = ["  columns:  # our name: name in the data\n", *(f"    {o}: {write_value(n)}\n" for o, n in look.columns.items())]
    objectives = [f"#   - {{name: {n}, direction: {DIRECTIONS[n]}}}\n" for n in (metric, *USUAL)]
    text = resources.files("autopeft.cli").joinpath("study_template.yaml").read_text("utf-8")
    values = {"name": name, "model": model, "data": data, "task": task, "metric": metric, "budget": budget}
    return Template(text).substitute(
        {key: write_value(value) for key, value in values.items()},
        metrics=", ".join(METRICS[task]),
        columns="".join(columns) if look.columns else "",
        objectives="".join(objectives),
    )
