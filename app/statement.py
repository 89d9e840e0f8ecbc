"""One statement, prepared on a connection of its own and run through libpq directly."""

import asyncio
from typing import Any

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from app.database import Database

_NAME = b"statement"
_BINARY = 1


class PreparedStatement:
    """Runs a statement with one parameter, one call at a time, binary both ways.

    psycopg's cursors cost as much as the rest of a read. This uses libpq as psycopg wraps it
    (`psycopg.pq`), and stays registered with the event loop instead of once per call.
    """

    def __init__(self, database: Database, sql: bytes) -> None:
        self._database = database
        self._sql = sql
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._socket = -1
        self._answer: asyncio.Future[PGresult] | None = None
        self._result: PGresult | None = None

    @property
    def is_connected(self) -> bool:
        """Tell whether a call would use a connection that was there before."""
        return self._connection is not None

    async def run(self, parameter: bytes) -> PGresult:
        """Return the result; raises psycopg.Error. After a failure the next call connects anew.

        The parameter has to be small, as it must fit into the socket's buffer: 16 kB are.
        """
        try:
            connection = self._connection or await self._connect()
            if connection.prepare_threshold is None:
                # Behind a pooler the next call may reach a backend that has not prepared it.
                connection.pgconn.send_query_params(
                    self._sql, [parameter], param_formats=[_BINARY], result_format=_BINARY
                )
            else:
                connection.pgconn.send_query_prepared(
                    _NAME, [parameter], param_formats=[_BINARY], result_format=_BINARY
                )
            return await self._receive(connection)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._stop_listening()
            await connection.close()

    def _stop_listening(self) -> None:
        # By the number that was registered: libpq may have closed the socket already.
        if self._socket >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket = -1

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        connection = self._connection = await self._database.connect()
        if connection.prepare_threshold is not None:
            # One plan serves all; to make it anew each time costs more than to run it.
            await connection.execute("SET plan_cache_mode = force_generic_plan")
        self._socket = connection.pgconn.socket
        asyncio.get_running_loop().add_reader(self._socket, self._on_readable, connection)
        if connection.prepare_threshold is not None:
            connection.pgconn.send_prepare(_NAME, self._sql)
            await self._receive(connection)
        return connection

    async def _receive(self, connection: psycopg.AsyncConnection[Any]) -> PGresult:
        self._answer = asyncio.get_running_loop().create_future()
        if connection.pgconn.flush():
            raise psycopg.OperationalError("the connection does not take more")
        return await self._answer

    def _on_readable(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Take what has arrived; answer when the server is ready for the next call."""
        try:
            connection.pgconn.consume_input()
            while not connection.pgconn.is_busy():
                result = connection.pgconn.get_result()
                if result is None:
                    self._deliver()
                    return
                self._result = result
        except psycopg.Error as error:
            # PostgreSQL has hung up. Where nobody waits, the next call connects anew.
            self._stop_listening()
            connection.pgconn.finish()
            self._connection = None
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(error)

    def _deliver(self) -> None:
        result, self._result = self._result, None
        if result is None or self._answer is None or self._answer.done():
            return
        if result.status in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
            self._answer.set_result(result)
            return
        state = (result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"").decode()
        try:
            kind = psycopg.errors.lookup(state)
        except KeyError:
            kind = psycopg.DatabaseError
        self._answer.set_exception(kind(result.get_error_message()))
