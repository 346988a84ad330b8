"""Optuna's dashboard on a study: loopback only, read-only, and what the search writes for it.

optuna-dashboard has no login, no read-only switch and no check of the Host header. So the database is
opened read-only, and a filter in front of it answers GET and HEAD alone, for known names of this
machine alone (a page elsewhere cannot reach it by pointing its own name at 127.0.0.1).
"""

from __future__ import annotations

import json
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, BinaryIO
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna

from autopeft import storage
from autopeft.errors import AutopeftError
from autopeft.record import StudyRecord

HOST = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost")
METHODS = ("GET", "HEAD")
PIECE = 2045
"""Characters of a text in one attribute of the dashboard's."""

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


def serve(folder: Path, port: int = 8080, ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve the dashboard of the study in `folder` on 127.0.0.1 until interrupted.

    port: 0 takes a free one. ready: told the address once it can be opened.
    Raises AutopeftError where there is no database or the port is taken.
    """
    with server(folder, port) as running:
        ready(f"http://{HOST}:{running.server_port}/")
        running.serve_forever()


def server(folder: Path, port: int) -> WSGIServer:
    """The server, bound but not yet serving."""
    app = application(folder)
    try:
        return make_server(HOST, port, app, server_class=_ThreadingServer, handler_class=_Quiet)
    except OSError as error:
        raise AutopeftError(f"cannot listen on {HOST}:{port}: {error.strerror or error}; give another --port") from error


def application(folder: Path) -> Application:
    """The filtered dashboard as a WSGI application. AutopeftError where `folder` has no database."""
    import optuna_dashboard

    if not storage.exists(folder):
        raise AutopeftError(f"{folder} has no {storage.DATABASE} to show; a recorded study has `autopeft report` alone")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    address, more = storage.url(folder, read_only=True).render_as_string(hide_password=False), {}
    if (path := folder / storage.DATABASE).is_file():
        # connected to by hand, since SQLAlchemy would undo the quoting of a path such as `a #b`
        uri = f"file:{quote(str(path.resolve()))}?mode=ro"
        address, more = "sqlite://", {"creator": lambda: sqlite3.connect(uri, uri=True, timeout=60, check_same_thread=False)}
    shown = optuna.storages.RDBStorage(address, engine_kwargs=more, skip_table_creation=True)
    return read_only(optuna_dashboard.wsgi(shown, artifact_store=AdapterFiles(folder)))


def read_only(inner: Application) -> Application:
    """`inner` for GET and HEAD (else 405) from a known Host (else 403), for pages of its own alone: the
    dashboard's permission for any other page to read artifacts is taken out."""

    def filtered(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in METHODS:
            return _refuse(start_response, "405 Method Not Allowed", "This dashboard is read-only.", [("Allow", ", ".join(METHODS))])
        if not re.fullmatch(rf"({'|'.join(map(re.escape, HOSTS))})(:\d+)?", environ.get("HTTP_HOST", "")):
            return _refuse(start_response, "403 Forbidden", f"This dashboard answers to {' and '.join(HOSTS)} alone.", [])

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [h for h in headers if h[0].lower() != "access-control-allow-origin"], *more)

        return inner(environ, start)

    return filtered


def _refuse(start_response: StartResponse, status: str, text: str, headers: list[tuple[str, str]]) -> list[bytes]:
    body = f"{text}\n".encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers])
    return [body]


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: standard error is for progress."""


class AdapterFiles:
    """The files of saved adapters as an artifact store of Optuna, without copies.

    An artifact's id is its trial's number and a hash of its file's name, since the dashboard's
    addresses take hexadecimal digits and dashes alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, number: int) -> dict[str, Path]:
        """Id -> file, of the adapter saved for a trial; empty where none was."""
        files = (path for path in sorted((self._folder / "trials" / str(number) / "adapter").glob("*")) if path.is_file())
        return {f"{number:d}-{sha256(path.name.encode()).hexdigest()[:16]}": path for path in files}

    def open_reader(self, artifact_id: str) -> BinaryIO:
        number = artifact_id.partition("-")[0]
        path = self.of(int(number)).get(artifact_id) if number.isdecimal() else None
        if path is None:
            raise optuna.artifacts.exceptions.ArtifactNotFound(artifact_id)
        return path.open("rb")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        raise PermissionError("the dashboard is read-only")

    def remove(self, artifact_id: str) -> None:
        raise PermissionError("the dashboard is read-only")


def annotate(study: optuna.Study, record: StudyRecord) -> None:
    """Write into the Optuna study what its dashboard shows beside numbers; can be done again, and then
    writes what changed.

    Names of the objectives, the verdict as the study's note, each trial in words, hypervolume and
    placement as figures, the front's adapter files as artifacts. The dashboard itself is not imported:
    it would bring torch into a process that need not have it.
    """
    from autopeft.report.charts.placement import placement
    from autopeft.report.charts.progress import hypervolume
    from autopeft.report.plain import escaped, trial_note
    from autopeft.report.summary import summarise

    summary = summarise(record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([o.name for o in summary.objectives])
    texts = {"dashboard:note_str:": f"**{escaped(summary.verdict.headline)}**\n\n{escaped(' '.join(summary.verdict.text))}"}
    marks: dict[str, Any] = {"dashboard:note_ver": 1}
    for chart in (hypervolume(summary), placement(summary)):
        if chart is not None:
            texts[f"dashboard:plot_data:{chart.name}:"] = json.dumps(chart.content)
    files = AdapterFiles(record.folder)
    rows = {row.number: row for row in summary.rows}
    for trial in study.get_trials(deepcopy=False):
        if (row := rows.get(trial.number)) is not None:
            texts[f"dashboard:{trial._trial_id}:note_str:"] = trial_note(summary, row)
            marks[f"dashboard:{trial._trial_id}:note_ver"] = 1
            if row.on_front or row.picks:
                marks.update(_artifacts(trial._trial_id, files.of(trial.number)))
    _write(study, texts, marks)


def _artifacts(trial_id: int, files: Mapping[str, Path]) -> dict[str, str]:
    """Attributes in which the dashboard looks for artifacts of finished trials, whose own ones Optuna has closed."""
    found = {}
    for identity, path in files.items():
        kind = "application/json" if path.suffix == ".json" else "application/octet-stream"
        meta = {"artifact_id": identity, "filename": path.name, "mimetype": kind, "encoding": None}
        found[f"dashboard:artifacts:{trial_id}:{identity}"] = json.dumps(meta)
    return found


def _write(study: optuna.Study, texts: Mapping[str, str], marks: Mapping[str, Any]) -> None:
    """Set system attributes of the study: `marks` as they are, `texts` as the dashboard reads them, in
    numbered pieces of `PIECE` characters, with empty ones where an earlier text was longer."""
    known = study._storage.get_study_system_attrs(study._study_id)
    wanted = dict(marks)
    for prefix, text in texts.items():
        pieces = [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
        before = sum(key.startswith(prefix) for key in known)
        pieces += [""] * (before - len(pieces))
        wanted.update({f"{prefix}{i}": piece for i, piece in enumerate(pieces)})
    for key, value in wanted.items():
        if known.get(key) != value:
            study._storage.set_study_system_attr(study._study_id, key, value)
