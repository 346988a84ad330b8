"""The ledger of a study: one database (`storage`), written by the coordinator alone.

    autopeft_trials         one row per configuration, numbered from 0
    autopeft_observations   one row per (trial, seed, step, recipe): the truth; never changed
    autopeft_facts          name -> JSON: spec, model shape, environment, seconds used

Every write is one transaction (in a file, in WAL mode), so that a killed coordinator loses at most what it had
not yet been told. An Optuna study in the same database (`view.py`) is made from these tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from autopeft import storage
from autopeft.errors import AutopeftError
from autopeft.study_format import FORMAT, check_format
from autopeft.trial import Observation, Origin, Trial, TrialState
from autopeft_searchspace.configuration import Configuration


class Json(sql.TypeDecorator[Any]):
    """JSON as text, with NaN and infinity, which PostgreSQL's own type refuses."""

    impl = sql.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sql.Dialect) -> str:
        return json.dumps(value)

    def process_result_value(self, value: Any, dialect: sql.Dialect) -> Any:
        return json.loads(value) if isinstance(value, str) else value  # SQLite makes numbers of digits in older files


_tables = sql.MetaData()
_trials = sql.Table(
    "autopeft_trials",
    _tables,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("key", sql.Text, unique=True, nullable=False),
    sql.Column("configuration", Json, nullable=False),
    sql.Column("origin", sql.Text, nullable=False),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("computed", Json, nullable=False),
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
    sql.Column("content", Json, nullable=False),
    sql.UniqueConstraint("key", "seed", "step", "recipe"),
)
_facts = sql.Table("autopeft_facts", _tables, sql.Column("name", sql.Text, primary_key=True), sql.Column("content", Json, nullable=False))


class Ledger:
    """Opens or creates the database of a study folder; usable as a context manager.

    Raises AutopeftError where there is none to read, or one of another format; StudyLocked where another
    machine writes it.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        if read_only and not storage.exists(folder):
            raise AutopeftError(f"{folder} holds no study (no {storage.DATABASE})")
        self.url = storage.url(folder).render_as_string(hide_password=False)
        address = storage.url(folder, read_only=read_only)
        self._engine = sql.create_engine(address, **storage.engine_arguments(address))
        sql.event.listen(self._engine, "handle_error", storage.in_words)
        self._held = None
        if not read_only:
            self._held = storage.hold(self._engine, folder)
            self._create()
        elif not sql.inspect(self._engine).has_table(_facts.name):
            raise AutopeftError(f"study {folder} was made but never started; run `autopeft search` on it")
        try:
            check_format(self.fact("format"), self.fact("environment"), folder)
        except AutopeftError:
            self.close()
            raise

    def _create(self) -> None:
        if self._engine.dialect.name == "sqlite":
            with self._engine.begin() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        _tables.create_all(self._engine)
        if self.fact("format") is None:
            self.set_fact("format", FORMAT)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
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
            "content": observation.to_json(),
        }
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        with self._engine.begin() as connection:
            connection.execute(insert(_observations).values(row).on_conflict_do_nothing())

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


def observation_of(trials: Sequence[Trial], key: str, seed: int, step: int, recipe: str) -> Observation | None:
    """The observation with this identity, if it was made."""
    for trial in trials:
        for found in trial.observations:
            if (found.key, found.seed, found.step, found.recipe) == (key, seed, step, recipe):
                return found
    return None
