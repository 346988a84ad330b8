"""The dashboard over real HTTP on loopback: what it answers, what it refuses, what the search wrote for it."""

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import synthetic
from optuna_dashboard import get_note

from autopeft.dashboard import HOST, AdapterFiles, annotate, serve, server
from autopeft.errors import AutopeftError
from autopeft.record import StudyRecord
from autopeft.report.summary import summarise
from autopeft.storage import DATABASE
from autopeft.view import View

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
TRIALS = 16


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    folder = tmp_path_factory.mktemp("a study, 100% & #more")
    return replace(synthetic.record(TRIALS), folder=folder)


@pytest.fixture(scope="module")
def study(record: StudyRecord) -> optuna.Study:
    """The Optuna view of the record, annotated twice, with adapters saved for its front."""
    for row in summarise(record).front:
        adapter = record.folder / "trials" / str(row.number) / "adapter"
        adapter.mkdir(parents=True)
        (adapter / "adapter_config.json").write_text('{"rank": 8}')
        (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    study = View(f"sqlite:///{record.folder / DATABASE}", record.spec, synthetic.space())
    study.update(record.trials)
    annotate(study.study, record)
    annotate(study.study, record)
    return study.study


@pytest.fixture(scope="module")
def port(record: StudyRecord, study: optuna.Study) -> Iterator[int]:
    with server(record.folder, 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_the_start_page_leads_to_the_dashboard(port: int) -> None:
    status, headers, _ = ask(port, "GET", "/")
    assert (status, headers["location"]) == (302, f"http://{HOST}:{port}/dashboard")
    status, _, body = ask(port, "GET", "/dashboard")
    assert status == 200
    assert b"Optuna Dashboard" in body


def test_the_study_is_shown_with_its_trials(port: int, record: StudyRecord) -> None:
    (found,) = json.loads(ask(port, "GET", "/api/studies")[2])["study_summaries"]
    assert found["study_name"] == record.spec.name
    detail = json.loads(ask(port, "GET", f"/api/studies/{found['study_id']}")[2])
    assert len(detail["trials"]) == TRIALS
    assert detail["objective_names"] == ["accuracy", "trainable_parameters", "peak_memory_bytes"]
    assert {figure["id"] for figure in detail["plotly_graph_objects"]} == {"hypervolume", "placement"}
    assert detail["trials"][1]["note"]["body"].startswith("**LoRA r=8 on q,v**")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(port: int, method: str) -> None:
    status, headers, _ = ask(port, method, "/api/studies/1")
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", "", "127.0.0.1:80@evil"])
def test_other_hosts_are_refused(port: int, host: str) -> None:
    assert ask(port, "GET", "/dashboard", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1"])
def test_this_machine_may_ask(port: int, host: str) -> None:
    assert ask(port, "GET", "/api/studies", Host=host)[0] == 200


def test_head_has_no_body(port: int) -> None:
    status, _, body = ask(port, "HEAD", "/dashboard")
    assert (status, body) == (200, b"")


def test_adapters_of_the_front_can_be_fetched_but_not_by_other_pages(port: int, record: StudyRecord, study: optuna.Study) -> None:
    number = summarise(record).front[1].number
    trial_id = study.get_trials(deepcopy=False)[number]._trial_id
    files = AdapterFiles(record.folder).of(number)
    bodies = set()
    for identity in files:
        status, headers, body = ask(port, "GET", f"/artifacts/{study._study_id}/{trial_id}/{identity}")
        assert status == 200
        assert "access-control-allow-origin" not in headers
        bodies.add(body)
    assert bodies == {b'{"rank": 8}', b"weights"}
    assert ask(port, "GET", f"/artifacts/{study._study_id}/{trial_id}/{number}-0000")[0] == 404


@pytest.mark.parametrize("identity", ["", "1", "1-../../study.db", "../1-ab", "²-ab", "99-abc"])
def test_no_other_file_is_an_artifact(record: StudyRecord, identity: str) -> None:
    with pytest.raises(optuna.artifacts.exceptions.ArtifactNotFound):
        AdapterFiles(record.folder).open_reader(identity)


def test_the_database_is_not_written(port: int, record: StudyRecord) -> None:
    before = (record.folder / DATABASE).read_bytes()
    for path in ("/api/studies", "/api/studies/1", "/dashboard"):
        ask(port, "GET", path)
    assert (record.folder / DATABASE).read_bytes() == before


def test_the_note_of_the_study_is_the_verdict(study: optuna.Study, record: StudyRecord) -> None:
    assert summarise(record).verdict.headline.split("%")[0] in get_note(study)


def test_a_shorter_text_leaves_nothing_of_a_longer_one(study: optuna.Study, record: StudyRecord) -> None:
    long = tuple(replace(t, label="x" * 9000) if t.number == 0 else t for t in record.trials)
    annotate(study, replace(record, trials=long))
    annotate(study, record)
    attributes = study._storage.get_study_system_attrs(study._study_id)
    trial_id = study.get_trials(deepcopy=False)[0]._trial_id
    pieces = [attributes[key] for key in sorted(attributes) if key.startswith(f"dashboard:{trial_id}:note_str:")]
    assert "".join(pieces).startswith("**head only**")
    assert "xx" not in "".join(pieces)


def test_notes_are_written_without_the_dashboard_and_its_torch() -> None:
    code = "import sys, autopeft.dashboard, autopeft.report.summary; sys.exit('torch' in sys.modules or 'optuna_dashboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_without_a_database_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AutopeftError, match=r"has no study\.db"):
        serve(tmp_path)


def test_a_taken_port_is_an_error(record: StudyRecord, study: optuna.Study) -> None:
    with socket.create_server((HOST, 0)) as taken, pytest.raises(AutopeftError, match="--port"):
        server(record.folder, taken.getsockname()[1])


def test_the_address_is_told_when_it_can_be_opened(record: StudyRecord, study: optuna.Study) -> None:
    def open_it(url: str) -> None:
        assert url.startswith(f"http://{HOST}:")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(record.folder, 0, open_it)
