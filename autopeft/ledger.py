"""The ledger of a study: one SQLite database, written by the coordinator alone.

    autopeft_trials         one row per configuration, numbered from 0
    autopeft_observations   one row per (trial, seed, step, recipe): the truth; never changed
    autopeft_facts          name -> JSON: spec, model shape, environment, seconds used

Every write is one transaction in WAL mode, so that a killed coordinator loses at most what it had
not yet been told. An Optuna study in the same database (`view.py`) is made from these tables.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from autopeft.errors import AutopeftError
from autopeft.trial import Observation, Origin, Trial, TrialState
from autopeft_searchspace.configuration import Configuration

DATABASE = "study.db"
FORMAT = 1

_tables = sql.MetaData()
_trials = sql.Table(
    "autopeft_trials",
    _tables,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("key", sql.Text, unique=True, nullable=False),
    sql.Column("configuration", sql.JSON, nullable=False),
    sql.Column("origin", sql.Text, nullable=False),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("computed", sql.JSON, nullable=False),
    sql.Column("reason", sql.Text, nullable=False, default=""),
    sql.Column("note", sql.Text, nullable=False, default=""),
    sql.Column("seconds", sql.Float, nullable=False, default=0.0),
    sql.Column("started", sql.Text, nullable=False),
)
_observations = sql.Table(
    "autopeft_observations",
    _tables,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("trial", sql.ForeignKey("autopeft_trials.number"), nullable=False),
    sql.Column("key", sql.Text, nullable=False),
    sql.Column("seed", sql.Integer, nullable=False),
    sql.Column("step", sql.Integer, nullable=False),
    sql.Column("recipe", sql.Text, nullable=False),
    sql.Column("content", sql.JSON, nullable=False),
    sql.UniqueConstraint("key", "seed", "step", "recipe"),
)
_facts = sql.Table(
    "autopeft_facts", _tables, sql.Column("name", sql.Text, primary_key=True), sql.Column("content", sql.JSON, nullable=False)
)


def database_url(path: Path, *, read_only: bool = False) -> sql.URL:
    """The database file as SQLAlchemy has it, whatever signs its path holds."""
    if read_only:
        return sql.URL.create("sqlite", database=path.resolve().as_uri(), query={"mode": "ro", "uri": "true"})
    return sql.URL.create("sqlite", database=str(path.resolve()))


class Ledger:
    """Opens or creates the database in a study folder; usable as a context manager."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        path = folder / DATABASE
        if read_only and not path.exists():
            raise AutopeftError(f"{folder} holds no study (no {DATABASE})")
        self.url = str(database_url(path))
        self._engine = sql.create_engine(database_url(path, read_only=read_only), connect_args={"timeout": 60})
        sql.event.listen(self._engine, "handle_error", _in_words)
        if not read_only:
            with self._engine.begin() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            _tables.create_all(self._engine)
            if self.fact("format") is None:
                self.set_fact("format", FORMAT)
        if self.fact("format") != FORMAT:
            raise AutopeftError(f"study {folder} has format {self.fact('format')}, this version reads format {FORMAT}")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def fact(self, name: str) -> Any:
        """What is stored under `name`, None where nothing is."""
        with self._engine.connect() as connection:
            return connection.execute(sql.select(_facts.c.content).where(_facts.c.name == name)).scalar_one_or_none()

    def set_fact(self, name: str, content: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(sql.delete(_facts).where(_facts.c.name == name))
            connection.execute(sql.insert(_facts).values(name=name, content=content))

    def trials(self) -> tuple[Trial, ...]:
        """All trials by number, each with its observations by seed and step."""
        with self._engine.connect() as connection:
            rows = connection.execute(sql.select(_trials).order_by(_trials.c.number)).mappings().all()
            seen = connection.execute(sql.select(_observations).order_by(_observations.c.id)).mappings().all()
        observations: dict[int, list[Observation]] = {row["number"]: [] for row in rows}
        for row in seen:
            observations[row["trial"]].append(Observation.from_json(row["content"]))
        return tuple(
            Trial(
                number=row["number"],
                configuration=Configuration.from_json(row["configuration"]),
                origin=Origin(row["origin"]),
                state=TrialState(row["state"]),
                computed=row["computed"],
                observations=tuple(observations[row["number"]]),
                label=row["label"],
                reason=row["reason"],
                note=row["note"],
                seconds=row["seconds"],
                started=row["started"],
            )
            for row in rows
        )

    def add(self, configuration: Configuration, origin: Origin, label: str, computed: Mapping[str, float], started: str) -> int:
        """Enter a new trial as RUNNING and return its number. A configuration is entered once."""
        with self._engine.begin() as connection:
            number = connection.execute(sql.select(sql.func.count()).select_from(_trials)).scalar_one()
            connection.execute(
                sql.insert(_trials).values(
                    number=number,
                    key=configuration.key,
                    configuration=configuration.to_json(),
                    origin=origin.value,
                    label=label,
                    state=TrialState.RUNNING.value,
                    computed=dict(computed),
                    reason="",
                    note="",
                    seconds=0.0,
                    started=started,
                )
            )
        return int(number)

    def observe(self, number: int, observation: Observation) -> None:
        """Store an observation; one that is there already (an interrupted trial run again) stays."""
        row = {
            "trial": number,
            "key": observation.key,
            "seed": observation.seed,
            "step": observation.step,
            "recipe": observation.recipe,
            "content": json.loads(json.dumps(observation.to_json())),
        }
        with self._engine.begin() as connection:
            connection.execute(sql.insert(_observations).prefix_with("OR IGNORE").values(row))

    def end(self, number: int, state: TrialState, *, reason: str = "", note: str = "", seconds: float) -> None:
        """Move a trial to a finished state; `seconds` are added to those it used before."""
        change = {"state": state.value, "reason": reason, "seconds": _trials.c.seconds + seconds}
        with self._engine.begin() as connection:
            connection.execute(sql.update(_trials).where(_trials.c.number == number).values(**change, **({"note": note} if note else {})))

    def go_on(self, number: int) -> None:
        """Set a stopped trial back to RUNNING."""
        with self._engine.begin() as connection:
            change = {"state": TrialState.RUNNING.value, "reason": ""}
            connection.execute(sql.update(_trials).where(_trials.c.number == number).values(**change))

    def spend(self, number: int, seconds: float) -> None:
        """Add time that a trial used outside its main run (replicates, interrupted runs)."""
        with self._engine.begin() as connection:
            connection.execute(sql.update(_trials).where(_trials.c.number == number).values(seconds=_trials.c.seconds + seconds))


def _in_words(context: sql.engine.ExceptionContext) -> None:
    """A full disk, a lock held by another program or a damaged file, as an error that says what to do."""
    error = context.original_exception
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
        raise AutopeftError(f"the study's database cannot be used: {error}; what was stored stays; the same command goes on") from error


def observation_of(trials: Sequence[Trial], key: str, seed: int, step: int, recipe: str) -> Observation | None:
    """The observation with this identity, if it was made."""
    for trial in trials:
        for found in trial.observations:
            if (found.key, found.seed, found.step, found.recipe) == (key, seed, step, recipe):
                return found
    return None
