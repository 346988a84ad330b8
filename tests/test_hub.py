from __future__ import annotations

import socket

import pytest
from huggingface_hub import constants

from autopeft import hub
from autopeft.errors import AutopeftError, SpecError


@pytest.fixture
def network(monkeypatch):
    """Online mode, no proxy, a hub whose name does not resolve; returns how often it was asked for."""
    asked = []

    def getaddrinfo(host, port):
        asked.append((host, port))
        raise socket.gaierror("unknown")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_that_does_not_resolve(network):
    assert not hub.is_reachable()
    assert network == [(constants.ENDPOINT.removeprefix("https://"), 443)]


def test_a_name_that_resolves(network, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: [object()])
    assert hub.is_reachable()


def test_a_proxy_is_trusted_to_resolve(network, monkeypatch):
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy"})
    assert hub.is_reachable()
    assert network == []


def test_offline_mode_asks_nobody(network, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy"})
    assert not hub.is_reachable()
    assert network == []


class Api:
    """Stands in for the hub's client: keeps what it is asked for."""

    asked: list[tuple[str, dict[str, object]]] = []  # noqa: RUF012
    refuses = False

    def create_repo(self, name, **settings):
        if self.refuses:
            raise OSError("401 Unauthorized")
        self.asked.append((name, settings))
        return f"https://hub/{name}"

    def upload_folder(self, **settings):
        self.asked.append((settings["repo_id"], settings))


def test_a_folder_is_pushed_to_a_private_repository(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(Api, "asked", [])
    assert hub.push(tmp_path, "me/adapter") == "https://hub/me/adapter"
    (_, made), (_, sent) = Api.asked
    assert made == {"private": True, "exist_ok": True}
    assert sent["folder_path"] == str(tmp_path)
    monkeypatch.setattr(Api, "refuses", True)
    with pytest.raises(AutopeftError, match="was not pushed to me/adapter: 401 Unauthorized; `hf auth login`"):
        hub.push(tmp_path, "me/adapter")


def test_a_push_is_checked_before_anything_trains(network):
    with pytest.raises(SpecError, match="a repository of the hub is USER/NAME, it is 'adapter'"):
        hub.check_push("adapter")
    with pytest.raises(AutopeftError, match="nothing can be pushed to me/adapter: the Hugging Face hub cannot be reached"):
        hub.check_push("me/adapter")
