"""A function to run where the database is written, and how its outcome comes back.

Rules: it has a transaction of its own; a ValueError refuses it alone and changes nothing, and so
does a fault of the function itself, for which nobody else stops; whoever asked may stop waiting,
what follows a commit happens all the same. This module must not know what is done, nor what else
the thread does.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Generic, TypeVar

from proxy.storage.ports import KeeperUnavailableError

Result = TypeVar("Result")
FAULTS = (
    LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
    sqlite3.InterfaceError, sqlite3.ProgrammingError,
)  # fmt: skip
"""What a function raises that met arguments it was not made for; the file is well."""


class ChangeFaultError(Exception):
    """A function met a fault of ours, which is the cause; nothing was changed."""


class Work(Generic[Result]):
    """A function to run on the writer thread in a transaction of its own."""

    def __init__(
        self,
        function: Callable[[sqlite3.Connection], Result],
        then: Callable[[Result], object] | None,
        future: "asyncio.Future[Result]",
        otherwise: Callable[[], object] | None = None,
    ) -> None:
        self._function = function
        self._then = then
        self._otherwise = otherwise
        self._future = future
        self._result: list[Result] = []
        self._refused: ValueError | ChangeFaultError | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Run and commit; a ValueError or a fault refuses this work only, and changes nothing."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._result.append(self._function(connection))
            connection.execute("COMMIT")
        except (ValueError, sqlite3.IntegrityError) as error:
            connection.execute("ROLLBACK")
            self._refused = error if isinstance(error, ValueError) else ValueError(str(error))
        except FAULTS as fault:
            connection.execute("ROLLBACK")
            self._refused = ChangeFaultError(f"{type(fault).__name__}: {fault}")
            self._refused.__cause__ = fault

    def finish(self, exception: KeeperUnavailableError | None = None) -> None:
        """Act on the outcome, then hand it to who waits, if they still do; on the loop."""
        error = exception or self._refused
        if error is None and self._then is not None:
            self._then(self._result[0])
        if error is not None and self._otherwise is not None:
            self._otherwise()
        if self._future.done():
            return
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(self._result[0])
