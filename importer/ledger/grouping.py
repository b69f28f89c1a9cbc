"""Writes of several threads in one commit: the sync of a disk takes longer than all else that a write does.

Must not know what is written. A write is durable when `GroupCommit.write` returns, as if it were alone.
"""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from importer.errors import TryLaterError
from importer.ledger.values import LedgerInvariantError

Act = Callable[[sqlite3.Connection], None]
Transaction = Callable[[int], AbstractContextManager[sqlite3.Connection]]


@dataclass(slots=True)
class _Write:
    act: Act
    is_done: bool = False
    failure: BaseException | None = None


class GroupCommit:
    """Commits together what comes in while a commit is under way.

    ``transaction``, given how many writes it holds, makes them durable at its end.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._waiting: list[_Write] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def write(self, act: Act) -> None:
        """Run one write and return once it is durable.

        Raises what ``act`` raised, whose changes are undone without the others', or what the commit raised,
        which undid all of them.
        """
        mine = _Write(act)
        with self._guard:
            self._waiting.append(mine)
        with self._turn:
            if not mine.is_done:
                with self._guard:
                    together, self._waiting = self._waiting, []
                self._commit(together)
        if mine.failure is not None:
            raise mine.failure

    def _commit(self, together: list[_Write]) -> None:
        try:
            with self._transaction(len(together)) as connection:
                if len(together) == 1:
                    together[0].act(connection)
                else:
                    for write in together:
                        self._run(connection, write)
        except BaseException as failure:
            for write in together:
                write.failure = write.failure or failure
        for write in together:
            write.is_done = True

    @staticmethod
    def _run(connection: sqlite3.Connection, write: _Write) -> None:
        connection.execute("SAVEPOINT one_write")
        try:
            write.act(connection)
        except (LedgerInvariantError, TryLaterError) as failure:
            write.failure = failure
            connection.execute("ROLLBACK TO one_write")
        connection.execute("RELEASE one_write")
