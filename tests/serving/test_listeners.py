"""The sockets on which the service listens: every address of HOST, all on one port."""

import socket
from contextlib import ExitStack

import pytest

from app.errors import StartError
from app.serving.listeners import bind


def addresses(host: str) -> set[str]:
    return {str(found[4][0]) for found in socket.getaddrinfo(host, None)}


def test_a_name_is_bound_at_each_of_its_addresses_and_on_one_port() -> None:
    with ExitStack() as opened:
        listeners = [opened.enter_context(listener) for listener in bind("localhost", 0)]
        assert {listener.getsockname()[0] for listener in listeners} == addresses("localhost")
        assert len({listener.getsockname()[1] for listener in listeners}) == 1


def test_all_addresses_of_ipv6_include_those_of_ipv4() -> None:
    (listener,) = bind("::", 0)
    with listener:
        listener.listen()
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), 10).close()


def test_a_port_that_is_taken_at_one_address_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=rf"^Another program listens on localhost:{port}\."):
            bind("localhost", port)


@pytest.mark.parametrize("host", ["m\u00fcnchen", "a..b", "a" * 64, "\ud800", "-", "300.1.1.1"])
def test_a_host_that_is_no_address_is_reported(host: str) -> None:
    with pytest.raises(StartError, match=r"^Nothing can listen on .*\(.+\)\. Set HOST to"):
        bind(host, 0)
