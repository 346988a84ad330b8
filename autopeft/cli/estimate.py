"""`autopeft estimate`: what a search, or training one configuration, would cost before anything trains."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, table, verb

Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", metavar="TYPE:SIZE[:ROLES[:LAYERS]]", help="With --model: e.g. lora:8:q,v; may be repeated."),
]
File = Annotated[Path | None, typer.Option("--configuration", help="With --model: JSON file of a configuration.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="With --model: examples per step.")]
Length = Annotated[int, typer.Option("--length", min=2, help="With --model: tokens per example.")]
Precision = Annotated[str, typer.Option("--precision", help="With --model: of the computation, bf16 or fp32.")]
Weights = Annotated[str, typer.Option("--weights", help="With --model: of the frozen base model: fp32, bf16, int8 or nf4.")]
Card = Annotated[
    str | None, typer.Option("--card", help="With --model: memory such as 24GB; the largest batch and adapter size within it.")
]


@verb
def estimate(
    out: Output,
    spec: options.Spec = None,
    model: options.Model = None,
    data: options.Data = None,
    task: options.Task = None,
    budget: options.Budget = None,
    max_memory: options.MaxMemory = None,
    max_parameters: options.MaxParameters = None,
    preset: options.Preset = None,
    device: options.Device = None,
    set_: options.Set = None,
    adapter: Adapters = None,
    configuration: File = None,
    batch: Batch = 32,
    length: Length = 128,
    precision: Precision = "bf16",
    weights: Weights = "fp32",
    card: Card = None,
) -> None:
    """Cost of a search or of one configuration, before anything trains.

    With SPEC or --data: parameters, predicted peak memory, seconds per trial and for the whole budget; exit
    code 3 where nothing fits the limits. With --model alone: memory by part for a configuration or the known
    defaults, from the model's config; neither weights nor a GPU are needed.
    """
    if spec is None and data is None and model is not None:
        setting = {"batch_size": batch, "length": length, "device_type": (device or "cuda").partition(":")[0]}
        out.result(
            *_of_model(model, task or "", adapter or [], configuration, card, {**setting, "precision": precision, "weights": weights})
        )
        return
    flags = {
        "--model": model,
        "--data": data,
        "--task": task,
        "--budget": budget,
        "--max-memory": max_memory,
        "--max-parameters": max_parameters,
        "--preset": preset,
        "--device": device,
    }
    found, folder = options.given_spec(spec, set_, flags)

    from autopeft.estimate import estimate as run

    result = run(found, folder)
    out.result(result.to_json(), result.in_words())


def _of_model(
    model: str, task: str, adapters: list[str], file: Path | None, card: str | None, given: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """JSON and words on one base model."""
    from autopeft.budget import parse_bytes
    from autopeft.footprint import Footprints, Setting, configuration_of, defaults
    from autopeft.report import words
    from autopeft_searchspace.rules import trainable_parameters

    limit = parse_bytes(card) if card else None
    setting, prints = Setting(**given), Footprints(model, task)
    chosen = configuration_of(adapters, file, prints.shape)
    wanted = [(chosen.in_words().partition(";")[0], chosen)] if chosen else defaults(prints.shape)
    rows, cells = [], []
    for name, one in wanted:
        parts = prints.trace(one, setting).to_json()
        count = trainable_parameters(one, prints.shape) if one else prints.parameters
        rows.append({"name": name, "trainable_parameters": count, **parts})
        cells.append(
            [name, words.count(count), *(words.bytes_(parts[p]) for p in ("weights", "gradients", "optimizer", "activations", "peak"))]
        )
    found: dict[str, Any] = {
        "model": model,
        "task": prints.kind,
        "parameters": prints.parameters,
        **asdict(setting),
        "rows": rows,
    }
    lines = [
        f"{model}: {words.count(prints.parameters)} parameters, {prints.shape.layers} layers; {prints.kind.replace('_', ' ')}",
        f"batches of {setting.batch_size} with {setting.length} tokens each, {setting.precision} on {setting.device_type}, "
        f"base model kept in {setting.weights}; parts are what lives at the moment of the peak",
        "",
        table(["configuration", "trainable", "weights", "gradients", "optimiser", "activations", "peak"], cells),
    ]
    if limit is not None:
        of = chosen or defaults(prints.shape)[1][1]
        assert of is not None
        name, most = "LoRA r=8 on q,v" if chosen is None else "this configuration", prints.largest_batch(of, setting, limit)
        found["largest_batch"] = most[0]
        lines += ["", _said(most, f"largest batch of {name} within {words.bytes_(limit)}", "even one example")]
        if len(of.components) == 1:
            size = prints.largest_size(of.components[0], setting, limit)
            found["largest_size"] = size[0]
            lines.append(_said(size, f"largest size of its {of.components[0].type} at batch {setting.batch_size}", "even size 1"))
    return found, "\n".join(lines)


def _said(found: tuple[int, int], what: str, least: str) -> str:
    from autopeft.report import words

    number, peak = found
    return f"{what}: {number:,} ({words.bytes_(peak)})" if number else f"{what}: none, {least} needs {words.bytes_(peak)}"
