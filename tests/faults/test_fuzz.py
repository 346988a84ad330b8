"""Whatever is written into a spec, a setting, a data file or a configuration: it is read, or refused in words.

Each reader gets valid input that was damaged: bytes cut, doubled, swapped and replaced, values of the
wrong kind, keys that do not exist. `pytest -m slow tests/faults/test_fuzz.py` tries 2,000 inputs per
reader, the quick tests 60.
"""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
import tiny
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded_study import write_study

import autopeft
from autopeft import picks, record
from autopeft.budget import Budget, parse_bytes, parse_parameters
from autopeft.data import read_data
from autopeft.errors import AutopeftError
from autopeft.ledger import Ledger
from autopeft.record import SPEC as SPEC_FILE
from autopeft.recorded import ENVIRONMENT, OBSERVATIONS
from autopeft.spec import DataSpec, TaskSpec
from autopeft.spec_file import make_spec, read_spec
from autopeft.spec_file import settings as setting_names
from autopeft.storage import DATABASE

SPEC: dict[str, Any] = {
    "name": "fuzzed",
    "model": {"base": "folder", "roles": {"q": "query"}},
    "task": {"kind": "classification", "metric": "accuracy"},
    "data": {"source": "data", "columns": {"text": "sentence"}, "max_length": 64},
    "space": {"preset": "default", "change": {"lora.size": [0, 4]}},
    "objectives": [{"name": "accuracy", "direction": "maximize"}, {"name": "trainable_parameters", "direction": "minimize"}],
    "constraints": {"maximum_memory": "2GB", "maximum_parameters": "1%"},
    "fidelity": {"rungs": [0.25, 0.5]},
    "budget": "40trials,30m",
}
ROWS = [{"text": f"sentence {i}", "text_pair": "an é and a 'quote'", "label": "ab"[i % 2]} for i in range(12)]
FRAME = pd.DataFrame(ROWS)
PARQUET = io.BytesIO()
FRAME.to_parquet(PARQUET)
FILES = {
    "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "json": json.dumps(ROWS).encode(),
    "csv": FRAME.to_csv(index=False).encode(),
    "tsv": FRAME.to_csv(index=False, sep="\t").encode(),
    "parquet": PARQUET.getvalue(),
}
LORA = {"type": "lora", "size": 8, "layers": [0, 1], "roles": ["q", "v"], "options": {"alpha": 8}}
CONFIGURATION = {"components": [LORA], "learning_rate": 0.005}

RECORD = synthetic.record()
TRIAL = next(t for t in RECORD.trials if t.observations)


def made_ledger() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        with Ledger(Path(folder)) as made:
            made.set_fact("spec", RECORD.spec.model_dump(mode="json"))
            made.set_fact("environment", {**RECORD.environment, "shape": RECORD.shape.to_json()})
            made.add(TRIAL.configuration, TRIAL.origin, TRIAL.label, TRIAL.computed, TRIAL.started)
            made.observe(0, TRIAL.observations[0])
        return (Path(folder) / DATABASE).read_bytes()


LEDGER = made_ledger()
CELLS = {
    "spec": "UPDATE autopeft_facts SET content = ? WHERE name = 'spec'",
    "environment": "UPDATE autopeft_facts SET content = ? WHERE name = 'environment'",
    "configuration": "UPDATE autopeft_trials SET configuration = ?",
    "observation": "UPDATE autopeft_observations SET content = ?",
    "computed": "UPDATE autopeft_trials SET computed = ?",
    "state": "UPDATE autopeft_trials SET state = ?",
}
WRITTEN = {
    "spec": RECORD.spec.model_dump(mode="json"),
    "environment": {**RECORD.environment, "shape": RECORD.shape.to_json()},
    "configuration": TRIAL.configuration.to_json(),
    "observation": json.loads(json.dumps(TRIAL.observations[0].to_json())),
    "computed": dict(TRIAL.computed),
    "state": TRIAL.state.value,
}
RECORDED = {path.name: path.read_bytes() for path in write_study(Path(tempfile.mkdtemp())).iterdir()}

PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["nan", "1e999", "-1", "../..", "~"])
)
ANYTHING = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3), max_leaves=6)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` after up to four splices: a stretch of it is replaced by other bytes or by another stretch of it."""
    content = whole
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted((draw(st.integers(0, len(content))), draw(st.integers(0, len(content)))))
        end = min(end, start + draw(st.sampled_from([0, 1, 4, 10**6])))
        at = draw(st.integers(0, len(content)))
        other = draw(
            st.binary(max_size=6) | st.just(content[at : at + 20]) | st.sampled_from([b'"', b"\n", b"{", b"[" * 5000, b"\0", b"!!python/"])
        )
        content = content[:start] + other + content[end:]
    return content


@st.composite
def disturbed(draw: st.DrawFn, whole: Any) -> Any:
    """`whole`, dictionaries and lists of plain values, with one value in it exchanged, added or taken away."""
    if isinstance(whole, dict) and whole and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(whole)))
        return {**whole, key: draw(disturbed(whole[key]))}
    if isinstance(whole, list) and whole and draw(st.booleans()):
        at = draw(st.integers(0, len(whole) - 1))
        return [*whole[:at], draw(disturbed(whole[at])), *whole[at + 1 :]]
    if isinstance(whole, dict) and draw(st.booleans()):
        return {**whole, draw(st.text(max_size=8)): draw(ANYTHING)}
    return draw(ANYTHING)


def refused_or_read(read: Callable[[], Any]) -> None:
    """Fails for every exception but those that tell a user what is wrong."""
    with contextlib.suppress(AutopeftError):
        read()


def spec_text(content: bytes, folder: Path) -> None:
    (folder / "study.yaml").write_bytes(content)
    refused_or_read(lambda: read_spec(folder, environ={}))


def setting(given: tuple[str, str], folder: Path) -> None:
    refused_or_read(lambda: make_spec(SPEC, ["=".join(given)]))


def data_file(given: tuple[str, bytes], folder: Path) -> None:
    ending, content = given
    (folder / f"train.{ending}").write_bytes(content)
    for kind in ("classification", "regression"):
        data = DataSpec(train=f"train.{ending}")
        refused_or_read(lambda kind=kind, data=data: read_data(data, TaskSpec(kind=kind), folder))


def amount(text: str, folder: Path) -> None:
    for read in (Budget.parse, parse_bytes, lambda text: parse_parameters(text, 10**6)):
        refused_or_read(lambda read=read: read(text))


def pick(text: str, folder: Path) -> None:
    refused_or_read(lambda: picks.find(RECORD, text))


def recorded(given: tuple[str, bytes], folder: Path) -> None:
    name, content = given
    (folder / SPEC_FILE).write_bytes(RECORDED[SPEC_FILE])
    (folder / OBSERVATIONS).write_bytes(RECORDED[OBSERVATIONS])
    (folder / ENVIRONMENT).write_bytes(RECORDED[ENVIRONMENT])
    (folder / name).write_bytes(content)
    refused_or_read(lambda: record.read(folder))


def configuration(content: Any, folder: Path) -> None:
    refused_or_read(lambda: autopeft.apply(tiny.build("bert", "classification"), content))


def spec_content(content: Any, folder: Path) -> None:
    refused_or_read(lambda: make_spec(content))


def ledger(given: tuple[str, Any], folder: Path) -> None:
    """A database whose bytes, or whose content in one cell, are not those that a search wrote."""
    where, content = given
    path = folder / DATABASE
    path.write_bytes(content if where == "bytes" else LEDGER)
    if where != "bytes":
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(CELLS[where], (json.dumps(content),))
    refused_or_read(lambda: record.read(folder))


RULE = r"(parameters|memory|loss)(<|<=|>)[0-9.]{1,4}(%|M|GB)?(,memory<[0-9]GB)?"
READERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any, Path], None]]] = {
    "spec_text": (damaged(yaml.safe_dump(SPEC, sort_keys=False).encode()), spec_text),
    "spec_content": (disturbed(SPEC), spec_content),
    "setting": (st.tuples(st.sampled_from(setting_names()) | st.text(max_size=10), st.text(max_size=20)), setting),
    "data_file": (st.sampled_from(sorted(FILES)).flatmap(lambda e: st.tuples(st.just(e), damaged(FILES[e]))), data_file),
    "configuration": (disturbed(CONFIGURATION), configuration),
    "recorded": (st.sampled_from(sorted(RECORDED)).flatmap(lambda n: st.tuples(st.just(n), damaged(RECORDED[n]))), recorded),
    "ledger": (
        st.sampled_from(["bytes", *CELLS]).flatmap(
            lambda where: st.tuples(st.just(where), damaged(LEDGER) if where == "bytes" else disturbed(WRITTEN[where]))
        ),
        ledger,
    ),
    "pick": (st.text(max_size=12) | st.from_regex(RULE, fullmatch=True), pick),
    "amount": (st.text(max_size=12) | st.from_regex(r"-?[0-9.e+]{0,8}(trials|m|h|GB|%|M)?(,[0-9]+m)?", fullmatch=True), amount),
}


def attack(name: str, folder: Path, inputs: int, *, derandomize: bool = True) -> None:
    """derandomize: the same inputs every time."""
    strategy, read = READERS[name]
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

    @settings(max_examples=inputs, deadline=None, suppress_health_check=quiet, database=None, derandomize=derandomize)
    @given(strategy)
    def every(content: Any) -> None:
        read(content, folder)

    every()


@pytest.mark.parametrize("name", READERS)
def test_damaged_input_is_read_or_refused_in_words(name: str, tmp_path: Path) -> None:
    attack(name, tmp_path, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_thousands_of_damaged_inputs_are_read_or_refused_in_words(name: str, tmp_path: Path) -> None:
    attack(name, tmp_path, 2000)
