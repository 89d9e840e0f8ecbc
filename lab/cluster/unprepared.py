"""A plugin for pytest that keeps the tests' own connections from preparing statements.

psycopg prepares a statement when it is executed for the sixth time, which a pooler of transactions
does not allow. The service detects a pooler; the tests' own connections do not.
"""

from typing import Any

import psycopg

_connects: tuple[Any, ...] = (psycopg.Connection.connect, psycopg.AsyncConnection.connect)
for _connect in _connects:
    _connect.__func__.__kwdefaults__["prepare_threshold"] = None
