from __future__ import annotations

import socket

import pytest
from huggingface_hub import constants

from inbatch import hub
from inbatch.hub import offline_if_unreachable


class Network:
    """Stands in for `socket.create_connection`: raises what it is given, call by call, then connects."""

    def __init__(self, *failures: OSError) -> None:
        self.failures, self.places = list(failures), []

    def __call__(self, place: tuple[str, int], timeout: float) -> socket.socket:
        self.places.append(place)
        if self.failures:
            raise self.failures.pop(0)
        return socket.socket()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    monkeypatch.setattr(hub.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(hub, "getproxies", dict)

    def set_up(*failures: OSError) -> Network:
        made = Network(*failures)
        monkeypatch.setattr(hub.socket, "create_connection", made)
        return made

    return set_up


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "unknown"), ConnectionRefusedError(), OSError(101, "no way")])
def test_without_a_network_the_caches_are_all_there_is_and_only_meanwhile(network, failure):
    made = network(failure, failure)
    seen = []

    def look() -> None:
        with offline_if_unreachable():
            seen.append(constants.HF_HUB_OFFLINE)
            raise KeyError

    with pytest.raises(KeyError):
        look()
    assert seen == [True]
    assert not constants.HF_HUB_OFFLINE
    assert made.places == [("hub.example", 443)] * 2


@pytest.mark.parametrize("failures", [(), (socket.gaierror(-3, "again"),), (TimeoutError(),)])
def test_a_hub_that_is_there_or_slow_is_asked(network, failures):
    network(*failures)
    with offline_if_unreachable():
        assert not constants.HF_HUB_OFFLINE


def test_a_proxy_is_left_to_the_libraries(network, monkeypatch):
    made = network(*[OSError()] * 2)
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy:1"})
    with offline_if_unreachable():
        assert not constants.HF_HUB_OFFLINE
    assert made.places == []


def test_who_wants_to_be_offline_stays_so(network, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    made = network()
    monkeypatch.setattr(constants, "ENDPOINT", "http://localhost:8000")
    with offline_if_unreachable():
        assert constants.HF_HUB_OFFLINE
    assert constants.HF_HUB_OFFLINE
    assert made.places == []
    assert hub._reachable(constants.ENDPOINT)
    assert made.places == [("localhost", 8000)]
