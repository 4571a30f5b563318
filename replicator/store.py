"""The ledger's connections: one that writes, one for each thread that reads; and names as small numbers.

Laws: one transaction at a time, committed durably or not at all; what follows from a commit is done while the lock is
still held, so that the next writer sees it. A reader sees the last commit and never waits for a writer.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from anycastle.replicator import schema
from anycastle.replicator.fault_point import Point, reach
from anycastle.replicator.schema import LedgerError

PAGE_ROWS = 1000
PATH_END = b"\xff" * 4097
"""Follows every path."""

Row = tuple[Any, ...]
Value = int | float | str | bytes | None


class Store:
    """An open ledger database."""

    def __init__(self, path: Path) -> None:
        """Raises LedgerError: damaged, not writable, no space, in use."""
        self.path = path
        self._write_lock = threading.Lock()
        self._readers_lock = threading.Lock()
        self._readers: list[apsw.Connection] = []
        self._reader = threading.local()
        self._closed = False
        self._new_words: list[str] = []
        with contextlib.ExitStack() as undo, schema.explained(path):
            self._lock_descriptor = schema.lock(path)
            undo.callback(os.close, self._lock_descriptor)
            self._db, self.created = schema.open_writer(path)
            undo.callback(self._db.close, True)
            self._words = {str(text): int(word) for word, text in self._db.execute("SELECT id, text FROM word")}
            self._names = {word: text for text, word in self._words.items()}
            undo.pop_all()

    def close(self) -> None:
        """Closes every connection; anything asked for afterwards is a LedgerError. May be called twice."""
        with self._write_lock, self._readers_lock:
            if self._closed:
                return
            self._closed = True
            for connection in (*self._readers, self._db):
                connection.close(True)
            os.close(self._lock_descriptor)

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[tuple[apsw.Connection, list[Callable[[], None]]]]:
        """One transaction: its connection, and a list for what must follow the commit before the next writer.

        Not `durable`: it may be lost when the machine stops, then with everything after it; nothing is ever torn.
        """
        follow: list[Callable[[], None]] = []
        with self._write_lock, schema.explained(self.path):
            if self._closed:
                raise LedgerError(f"ledger {self.path} is closed")
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db, follow
                reach(Point.COMMIT)
                self._db.execute("COMMIT")
            except BaseException:
                self._undo()
                raise
            reach(Point.COMMITTED)
            self._new_words.clear()
            for step in follow:
                step()

    def _undo(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        for text in self._new_words:
            del self._names[self._words.pop(text)]
        self._new_words.clear()

    def rows(self, sql: str, values: tuple[Value, ...] = ()) -> list[Row]:
        """All rows of one short statement, as of the last commit."""
        try:
            return self._connection().execute(sql, values).fetchall()
        except apsw.Error as error:
            with schema.explained(self.path):
                raise error

    def walk(self, sql: str, grp: int, prefix: bytes, *, onwards: bool = False) -> Iterator[Row]:
        """Rows below a folder prefix in pages; `sql` takes (grp, after, end, limit), its first column is the path.

        `onwards`: all that comes after `prefix`, which is then any path.
        """
        last = prefix
        end = prefix[:-1] + b"0" if prefix and not onwards else PATH_END  # "0" follows "/"
        while True:
            rows = self.rows(sql, (grp, last, end, PAGE_ROWS))
            yield from rows
            if len(rows) < PAGE_ROWS:
                return
            last = rows[-1][0]

    # Names of members and groups

    def name(self, word: int) -> str:
        return self._names[word]

    def known_word(self, text: str) -> int | None:
        return self._words.get(text)

    def word(self, text: str) -> int:
        """The number of a name, given now if need be. Inside a transaction."""
        word = self._words.get(text)
        if word is None:
            sql = "INSERT INTO word(text) VALUES (?) ON CONFLICT DO UPDATE SET text = text RETURNING id"
            row: Row = self._db.execute(sql, (text,)).fetchall()[0]
            word = int(row[0])
            self._names[word] = text
            self._words[text] = word
            self._new_words.append(text)
        return word

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._reader, "connection", None)
        if connection is None:
            with self._readers_lock:
                if self._closed:
                    raise LedgerError(f"ledger {self.path} is closed")
                connection = self._reader.connection = schema.open_reader(self.path)
                self._readers.append(connection)
        return connection
