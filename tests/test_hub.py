from __future__ import annotations

import socket

import pytest
from huggingface_hub import constants

from autopeft import hub


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
