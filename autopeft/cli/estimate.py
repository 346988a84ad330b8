"""`autopeft estimate`: what a search would cost, before anything trains."""

from __future__ import annotations

from autopeft.cli import options
from autopeft.cli.console import Output, verb


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
) -> None:
    """Cost of a search, before anything trains.

    Trainable parameters, predicted peak memory, seconds per trial and for the whole budget. Exit code 3
    where nothing fits the limits.
    """
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
