"""Where the database of a study is: a SQLite file in its folder, or a schema of its own in a PostgreSQL database.

    study.db     the file
    study.url    in its place, the address of the server; without a password, for which there are
                 PGPASSWORD and ~/.pgpass

One database holds many studies, each in the schema of its name; tables are the same everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sql

from autopeft import files
from autopeft.errors import AutopeftError, SpecError, StudyLocked
from autopeft.spec import StudySpec

DATABASE = "study.db"
ADDRESS = "study.url"
DRIVER = "postgresql+psycopg"
BUSY_SECONDS = 60
"""How long a statement waits for another process that holds the database."""


def exists(study: Path) -> bool:
    """Whether the folder has a database of its own, here or on a server."""
    return (study / DATABASE).exists() or (study / ADDRESS).exists()


def url(study: Path, *, read_only: bool = False) -> sql.URL:
    """The database as SQLAlchemy has it, whatever signs the folder's name holds."""
    path = study / DATABASE
    if (study / ADDRESS).exists():
        address, options = _address(study / ADDRESS)
        return address.update_query_dict({"options": f"{options} -c default_transaction_read_only=on" if read_only else options})
    if read_only:
        return sql.URL.create("sqlite", database=path.resolve().as_uri(), query={"mode": "ro", "uri": "true"})
    return sql.URL.create("sqlite", database=str(path.resolve()))


def _address(path: Path) -> tuple[sql.URL, str]:
    """Address of the server and its options, as `place` wrote them. AutopeftError for anything else: a folder may
    come from somebody else."""
    try:
        address = sql.make_url(path.read_text("utf-8").strip())
        options = address.query["options"]
    except (KeyError, OSError, ValueError, sql.exc.ArgumentError):
        raise AutopeftError(f"{path} is damaged: it must hold the address that `autopeft search --storage` wrote") from None
    if address.drivername != DRIVER or not isinstance(options, str):
        raise AutopeftError(f"{path} must hold an address of {DRIVER}://, it holds one of {address.drivername}://")
    return address, options


def engine_arguments(address: sql.URL) -> dict[str, Any]:
    """What to give `sqlalchemy.create_engine` beside the URL."""
    if address.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS}}
    return {"pool_pre_ping": True}


def place(spec: StudySpec, study: Path) -> None:
    """Settle where a new study has its database; one that has a database keeps it.

    Raises SpecError where the server cannot be reached, or holds a study of this name made in another folder.
    """
    if not spec.storage or exists(study):
        return
    server = sql.make_url(spec.storage).set(drivername=DRIVER)
    try:
        engine = sql.create_engine(server)
    except ModuleNotFoundError as error:
        raise SpecError(f"storage {spec.storage} needs the package {error.name}: pip install 'autopeft[postgres]'") from None
    try:
        with engine.begin() as connection:
            connection.execute(sql.schema.CreateSchema(spec.name))
            quoted = connection.dialect.identifier_preparer.quote_identifier(spec.name)
            address = server.update_query_dict({"options": f"-c search_path={quoted}"})
            files.write_text(study / ADDRESS, address.render_as_string() + "\n")
    except sql.exc.ProgrammingError as error:
        if "already exists" not in str(error.orig):
            raise SpecError(f"storage {spec.storage} refuses a study called {spec.name!r}: {error.orig}") from None
        raise SpecError(f"storage {spec.storage} has a study called {spec.name!r} already; give another name with --name") from None
    except sql.exc.OperationalError as error:
        raise SpecError(f"storage {spec.storage} cannot be reached: {error.orig}") from None
    finally:
        engine.dispose()


def hold(engine: sql.Engine, study: Path) -> sql.Connection | None:
    """On a server, a connection that holds the study for this process until it is closed. StudyLocked.

    The lock of the folder does the same where all processes see one folder.
    """
    if engine.dialect.name == "sqlite":
        return None
    connection = engine.connect()
    if not connection.execute(sql.text("SELECT pg_try_advisory_lock(hashtext(current_schema()))")).scalar_one():
        connection.close()
        raise StudyLocked(f"study {study} is open in another process, maybe on another machine; wait for it")
    connection.commit()
    return connection


def clear(study: Path) -> None:
    """Remove the database, so that a study starts afresh; where it is stays as it is."""
    if (study / ADDRESS).exists():
        engine = sql.create_engine(url(study))
        with engine.begin() as connection:
            schema = connection.execute(sql.text("SELECT current_schema()")).scalar_one()
            connection.execute(sql.schema.DropSchema(schema, cascade=True))
            connection.execute(sql.schema.CreateSchema(schema))
        engine.dispose()
    for ending in ("-wal", "-shm", "-journal", ""):  # a log that outlived its file would be read into the next one
        (study / f"{DATABASE}{ending}").unlink(missing_ok=True)


def in_words(context: sql.engine.ExceptionContext) -> None:
    """A full disk, a lock held by another program, a damaged file or a lost server, as an error that says what to do."""
    error = context.sqlalchemy_exception
    if isinstance(error, sql.exc.DatabaseError) and not isinstance(error, (sql.exc.IntegrityError, sql.exc.ProgrammingError)):
        told = " ".join(str(context.original_exception).split())
        raise AutopeftError(f"the study's database cannot be used: {told}; what was stored stays; the same command goes on") from error
