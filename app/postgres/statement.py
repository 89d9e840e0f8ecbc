"""One statement, prepared on a connection of its own and run through libpq directly."""

import asyncio
import time
from collections.abc import Callable

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from app.database import Database
from app.postgres.connections import Connection

_NAME = b"statement"
_BINARY = 1


class PreparedStatement:
    """Runs a statement with one parameter, one call at a time, binary both ways.

    psycopg's cursors cost as much as the rest of a read. This uses libpq as psycopg wraps it
    (`psycopg.pq`), stays registered with the event loop instead of once per call, and hands the
    result over without another turn of the loop.
    """

    def __init__(self, database: Database, sql: bytes) -> None:
        self._database = database
        self._sql = sql
        self._connection: Connection | None = None
        self._socket = -1
        self._done: Callable[[PGresult | psycopg.Error], None] | None = None
        self._result: PGresult | None = None

    @property
    def generation(self) -> int | None:
        """The generation of its connection, if it has one."""
        return self._connection.generation if self._connection else None

    @property
    def is_connected(self) -> bool:
        """Tell whether there is a connection that may be used, for all that is known."""
        return self.generation == self._database.generation

    @property
    def is_idle(self) -> bool:
        """Tell whether there is a connection that may lead to a frozen host."""
        return self._connection is not None and self._connection.is_idle

    async def connect(self) -> None:
        """Connect and prepare, unless that is done; raises psycopg.Error."""
        if self.is_connected:
            return
        await self.close()
        connection = self._connection = await self._database.connect()
        try:
            if connection.prepare_threshold is not None:
                # One plan serves all; to make it anew each time costs more than to run it.
                await connection.execute("SET plan_cache_mode = force_generic_plan")
                connection.pgconn.send_prepare(_NAME, self._sql)
                await self._until_done(connection)
            else:
                self._listen(connection)
        except BaseException:
            await self.close()
            raise

    def start(self, parameter: bytes, done: Callable[[PGresult | psycopg.Error], None]) -> None:
        """Send the statement; `done` is called with its result, or with the error.

        Raises psycopg.Error where it cannot be sent. The parameter has to be small, as it must
        fit into the socket's buffer: 40 kB are. After an error the statement has to be closed.
        """
        if self._connection is None:
            raise psycopg.OperationalError("the connection was lost")
        pgconn = self._connection.pgconn
        if self._connection.prepare_threshold is None:
            # Behind a pooler the next call may reach a backend that has not prepared it.
            pgconn.send_query_params(
                self._sql, [parameter], param_formats=[_BINARY], result_format=_BINARY
            )
        else:
            pgconn.send_query_prepared(
                _NAME, [parameter], param_formats=[_BINARY], result_format=_BINARY
            )
        self._done = done
        if pgconn.flush():
            raise psycopg.OperationalError("the connection does not take more")

    async def close(self) -> None:
        """Close the connection, if there is one; a call under way is not told."""
        connection, self._connection = self._connection, None
        self._done = self._result = None
        if connection is not None:
            self._stop_listening()
            await connection.close()

    async def _until_done(self, connection: Connection) -> None:
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def finish(outcome: PGresult | psycopg.Error) -> None:
            if finished.done():
                return
            if isinstance(outcome, psycopg.Error):
                finished.set_exception(outcome)
            else:
                finished.set_result(None)

        self._done = finish
        self._listen(connection)
        connection.pgconn.flush()
        await finished

    def _listen(self, connection: Connection) -> None:
        self._socket = connection.pgconn.socket
        asyncio.get_running_loop().add_reader(self._socket, self._on_readable, connection)

    def _stop_listening(self) -> None:
        # By the number that was registered: libpq may have closed the socket already.
        if self._socket >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket = -1

    def _on_readable(self, connection: Connection) -> None:
        """Take what has arrived; it is complete when the server is ready for the next call."""
        try:
            connection.pgconn.consume_input()
            while not connection.pgconn.is_busy():
                result = connection.pgconn.get_result()
                if result is None:
                    self._finish()
                    return
                self._result = result
        except psycopg.Error as error:
            # PostgreSQL has hung up, be it that somebody waits or not.
            self._stop_listening()
            connection.pgconn.finish()
            self._connection = None
            self._tell(error)

    def _finish(self) -> None:
        result, self._result = self._result, None
        if result is not None:
            succeeded = result.status in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}
            self._tell(result if succeeded else _error(result))

    def _tell(self, outcome: PGresult | psycopg.Error) -> None:
        if self._connection is not None:
            self._connection.used = time.monotonic()
        done, self._done = self._done, None
        if done is not None:
            done(outcome)


def _error(result: PGresult) -> psycopg.Error:
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(result.get_error_message())
