"""A study whose ledger is in PostgreSQL: a real server of its own, started for these tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql
from tiny_study import run, tiny_spec

from autopeft import storage
from autopeft.dashboard import application
from autopeft.errors import AutopeftError, SpecError, StudyLocked
from autopeft.ledger import Ledger
from autopeft.record import read
from autopeft.spec_file import make_spec, read_spec


def program(name: str) -> str | None:
    """A program of the server's, which Debian keeps off the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(versions[-1]) if versions else shutil.which(name)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty PostgreSQL database that answers on a socket alone."""
    pytest.importorskip("psycopg")
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("needs PostgreSQL")
    account = pwd.getpwnam("postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)  # the server refuses root
    folder = Path(tempfile.mkdtemp(prefix="autopeft-", dir="/tmp"))
    os.chown(folder, account.pw_uid, account.pw_gid)
    as_account = {"user": account.pw_uid, "group": account.pw_gid} if os.geteuid() == 0 else {}

    def call(*command: str) -> None:
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120, **as_account)

    try:
        call(initdb, "--auth=trust", "--username=tester", "--no-sync", "-D", str(folder / "data"))
        settings = f"-k {folder} -c listen_addresses='' -c fsync=off"
        call(pg_ctl, "start", "--wait", "-D", str(folder / "data"), "-l", str(folder / "log"), "-o", settings)
        yield f"postgresql://tester@/postgres?host={folder}"
        call(pg_ctl, "stop", "--mode=immediate", "-D", str(folder / "data"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_a_search_keeps_its_ledger_on_a_server(server: str, tmp_path: Path) -> None:
    path, study = tiny_spec(tmp_path, name="on-a.server"), tmp_path / "study"
    told = run(path, study, "--storage", server, "--budget", "6trials")
    assert told.returncode == 0, told.stderr
    assert not (study / storage.DATABASE).exists()
    first = read(study)
    assert len(first.trials) == 6
    assert all(t.state.finished for t in first.trials)

    more = run(path, study, "--storage", server, "--budget", "8trials")
    assert more.returncode == 0, more.stderr
    assert read(study).trials[:6] == first.trials
    assert len(read(study).trials) == 8

    spec, _ = read_spec(path, [f"storage={server}"], environ={})
    with pytest.raises(SpecError, match=r"has a study called 'on-a.server' already"):
        storage.place(spec, tmp_path)
    assert not storage.exists(tmp_path)
    with Ledger(study), pytest.raises(StudyLocked, match="maybe on another machine"):
        Ledger(study)
    shown = []
    environ = {
        "REQUEST_METHOD": "GET",
        "HTTP_HOST": "localhost",
        "PATH_INFO": "/api/studies",
        "QUERY_STRING": "",
        "wsgi.url_scheme": "http",
    }
    body = b"".join(application(study)(environ, lambda status, headers, *more: shown.append(status)))
    assert shown == ["200 OK"]
    assert b"on-a.server" in body

    storage.clear(study)
    storage.place(spec, study)
    with Ledger(study) as ledger:
        assert ledger.trials() == ()
    with pytest.raises(AutopeftError, match="read-only"), Ledger(study, read_only=True) as ledger:
        ledger.set_fact("x", 1)


@pytest.mark.slow
def test_the_contract_of_the_ledger_holds_on_a_server(server: str, tmp_path: Path) -> None:
    from test_ledger import HEAD, filled, observation

    (tmp_path / "study").mkdir()
    spec, _ = read_spec(tiny_spec(tmp_path), [f"storage={server}", "name=contract"], environ={})
    storage.place(spec, tmp_path / "study")
    told = filled(tmp_path / "study")
    with Ledger(tmp_path / "study") as ledger:
        ledger.observe(1, observation(value=0.9))
        ledger.set_fact("numbers", [float("inf"), 1e-300])
        assert ledger.fact("numbers") == [float("inf"), 1e-300]
        assert ledger.trials() == told
        with pytest.raises(sql.exc.IntegrityError):
            ledger.add(HEAD, told[0].origin, "", {}, "")
    with Ledger(tmp_path / "study", read_only=True) as ledger:
        assert ledger.trials() == told


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("postgresql://me:secret@host/db", "must not hold a password"),
        ("postgresql://me:se/cret@host/db", "must not hold a password"),
        ("postgresql://host/db?user=me&password=secret", "must not hold a password"),
        ("mysql://me:secret@host/db", "must be like postgresql://"),
    ],
)
def test_no_password_reaches_a_study_or_an_error(given: str, rule: str) -> None:
    content = {"name": "n", "model": {"base": "b"}, "task": {"kind": "regression"}, "data": {"source": "d"}, "storage": given}
    with pytest.raises(SpecError, match=rule) as told:
        make_spec(content)
    assert "secret" not in str(told.value)


def test_a_search_killed_before_its_first_table_can_be_started_again(tmp_path: Path) -> None:
    (tmp_path / storage.DATABASE).touch()
    with Ledger(tmp_path) as ledger:
        assert ledger.trials() == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no address", "is damaged: it must hold the address"),
        ("", "is damaged"),
        ("postgresql+psycopg://me@host/db", "is damaged"),
        ("postgresql+psycopg://me@host:port/db?options=x", "is damaged"),
        ("sqlite:////etc/passwd?options=x", r"must hold an address of postgresql\+psycopg://, it holds one of sqlite://"),
        ("evil+driver://host/db?options=x", r"it holds one of evil\+driver://"),
        ("postgresql+psycopg://h/db?options=a&options=b", "must hold an address"),
    ],
)
def test_a_folder_of_somebody_else_names_no_other_database(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "study.url").write_text(content, "utf-8")
    with pytest.raises(AutopeftError, match=said):
        read(tmp_path)
