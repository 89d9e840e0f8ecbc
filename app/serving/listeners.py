"""The sockets on which the service listens."""

import errno
import os
import socket
from contextlib import ExitStack

from app.errors import StartError

# A port that is free at one address of the host may be taken at another: PORT=0 tries again.
MOST_TRIES = 10
# What a machine without IPv6 answers, although the name has an address of that family.
NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of the host, all on one port; raise StartError.

    The sockets do not listen yet: nobody is accepted before the application has started.
    """
    tries = 1 if port else MOST_TRIES
    while True:
        tries -= 1
        try:
            return _bind_all(host, port)
        except UnicodeError as error:
            raise _unusable(host, port, "no valid name") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _unusable(host, port, error.strerror) from error
            if not tries:
                raise taken(host, port) from error


def taken(host: str, port: int) -> StartError:
    """Return the error for an address on which another program listens."""
    return StartError(
        f"Another program listens on {in_url(host, port)}. Stop it, or set PORT to another port; "
        "PORT=0 takes any that is free."
    )


def in_url(host: str, port: int) -> str:
    """Return the address as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unusable(host: str, port: int, reason: str | None) -> StartError:
    return StartError(
        f"Nothing can listen on {in_url(host, port)} ({reason}). Set HOST to an address of this "
        "machine, and PORT to a port that this user may use."
    )


def _bind_all(host: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, *_, address in found))
    listeners: list[socket.socket] = []
    failure = None
    with ExitStack() as opened:
        for family, address in addresses:
            try:
                listener = opened.enter_context(socket.socket(family))
                # One socket for `::` also takes IPv4, as is usual.
                if family == socket.AF_INET6 and len(addresses) > 1:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                # Otherwise a port stays taken for a minute after its last connection. Windows
                # would share it.
                if os.name == "posix":
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address[0], port, *address[2:]))
            except OSError as error:
                if error.errno not in NO_SUCH_FAMILY:
                    raise
                failure = error
            else:
                listeners.append(listener)
                port = listener.getsockname()[1]
        if failure and not listeners:
            raise failure
        opened.pop_all()
    return listeners
