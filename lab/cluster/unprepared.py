"""A plugin for pytest: what the tests themselves ask PostgreSQL is not prepared.

psycopg prepares a statement when it is asked for the sixth time, which a pooler of transactions
does not allow. The service finds that out for itself; the tests' own connections do not.
"""

from typing import Any

import psycopg

_connects: tuple[Any, ...] = (psycopg.Connection.connect, psycopg.AsyncConnection.connect)
for _connect in _connects:
    _connect.__func__.__kwdefaults__["prepare_threshold"] = None
