"""The configuration of Patroni: a leader confirms a write only when a second node has it."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from lab.cluster.node import Node

SCOPE = "tracker"

# Seconds of silence after which a leader is replaced; Patroni allows no fewer.
TTL = 20

_DYNAMIC = {
    "ttl": TTL,
    "loop_wait": 3,
    "retry_timeout": 5,
    # A leader that crashed is replaced at once, instead of being started again.
    "primary_start_timeout": 0,
    "synchronous_mode": True,
    "synchronous_mode_strict": True,
    "postgresql": {
        "use_pg_rewind": True,
        "use_slots": True,
        "parameters": {"max_connections": 100, "shared_buffers": "32MB", "wal_keep_size": "128MB"},
    },
}
_INITDB = [
    "data-checksums",
    {"encoding": "UTF8"},
    {"locale": "C"},
    {"locale-provider": "builtin"},
    {"builtin-locale": "C.UTF-8"},
]


@dataclass(frozen=True)
class Passwords:
    """The passwords of PostgreSQL's users, random for every cluster."""

    superuser: str = field(default_factory=lambda: secrets.token_hex(16))
    replication: str = field(default_factory=lambda: secrets.token_hex(16))
    rewind: str = field(default_factory=lambda: secrets.token_hex(16))


def configuration(
    node: Node, nodes: list[Node], passwords: Passwords, programs: str
) -> dict[str, Any]:
    """Return the configuration of one node's Patroni."""
    rest = f"127.0.0.1:{node.ports.rest}"
    postgresql = f"127.0.0.1:{node.ports.postgresql}"
    return {
        "scope": SCOPE,
        "name": node.name,
        "restapi": {"listen": rest, "connect_address": rest},
        "etcd3": {"hosts": [f"127.0.0.1:{other.ports.etcd}" for other in nodes]},
        "bootstrap": {"dcs": _DYNAMIC, "initdb": _INITDB},
        "postgresql": {
            "listen": postgresql,
            "connect_address": postgresql,
            "data_dir": str(node.data),
            "bin_dir": programs,
            "pgpass": str(node.folder / "pgpass"),
            "authentication": {
                "superuser": {"username": "postgres", "password": passwords.superuser},
                "replication": {"username": "replicator", "password": passwords.replication},
                "rewind": {"username": "rewind", "password": passwords.rewind},
            },
            "pg_hba": [
                "host all all 127.0.0.1/32 scram-sha-256",
                "host replication replicator 127.0.0.1/32 scram-sha-256",
            ],
            "parameters": {"unix_socket_directories": "", "password_encryption": "scram-sha-256"},
            "create_replica_methods": ["basebackup"],
            "basebackup": [{"checkpoint": "fast"}],
        },
        "watchdog": {"mode": "off"},
    }
