"""The index of all rows of outgoing calls: decided call by call, in memory that does not grow with the rows."""

from collections.abc import Callable

import numpy as np

from importer.prepare.groups import (
    INDEX_ROW,
    JOIN,
    RESOLVED,
    Decision,
    Ints,
    Rows,
    joined_calls,
    linked_keys,
    resolve,
)
from importer.prepare.spool import Parts

INDEX_ROWS = 250_000
"""So many rows are in memory at once; to decide them takes no more of it than a chunk that is read."""


class Index:
    """The index rows of all files: `add` them, `resolve` them once, then look up what became `of` them.

    Rows wait in blocks, numbered in input order, and are dealt out by the keys of their calls. What became of them
    is dealt back into blocks. So each part and each block is some ``most_rows`` at most: only the rows of one call
    are never torn apart. Memory grows with the keys that are joined to others, and with nothing else.
    """

    def __init__(self, most_rows: int = INDEX_ROWS) -> None:
        self._most = most_rows
        self._rows, self._joins = Parts(INDEX_ROW, most_rows), Parts(JOIN, most_rows)
        self._kept = (0, 0)
        self._resolved = Parts(RESOLVED, most_rows)
        self._block, self._number = np.empty(0, RESOLVED), -1
        self.unasked = np.zeros(len(Decision), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def close(self) -> None:
        """Forget everything."""
        for parts in (self._rows, self._joins, self._resolved):
            parts.close()

    def add(self, rows: Rows, joins: Rows) -> None:
        """Take the next rows (INDEX_ROW) and what joins them to others (JOIN)."""
        for parts, added in ((self._rows, rows), (self._joins, joins)):
            parts.add(added, np.arange(len(parts), len(parts) + len(added)) // self._most)

    def content(self) -> tuple[Rows, Rows]:
        """Return all rows and joins in the order they were added."""
        rows, joins = (np.concatenate([np.empty(0, parts.kind), *parts]) for parts in (self._rows, self._joins))
        return rows, joins

    def keep_file(self) -> None:
        """Keep the rows added so far, whatever becomes of the next file."""
        self._kept = len(self._rows), len(self._joins)

    def drop_file(self) -> None:
        """Forget the rows of a file that is not kept."""
        for parts, rows in zip((self._rows, self._joins), self._kept, strict=True):
            parts.cut(rows)

    def resolve(self) -> Ints:
        """Decide every row of the files kept; return the places of rows that name a joined call (`named_by`)."""
        self.drop_file()
        joins = self._dealt(self._joins, lambda joins: joins["value"])
        joined = joined_calls(np.concatenate([_NO_PAIRS, *map(linked_keys, joins)]))
        rows = self._dealt(self._rows, lambda rows: joined.calls_of(rows["key"])[0].view("u8")[::2])
        naming = [np.zeros(0, dtype=np.int64)]
        for part in rows:
            resolved = resolve(part, joined)
            self._resolved.add(resolved, resolved["slot"] // self._most)
            self.unasked += np.bincount(resolved["decision"], minlength=len(Decision))
            naming.append(np.unique(resolved["named_by"]))
        for parts in (joins, rows):
            parts.close()
        return np.setdiff1d(np.concatenate(naming), -1)

    def _dealt(self, blocks: Parts, hashed: Callable[[Rows], Ints]) -> Parts:
        """Return the rows of all blocks in as many parts, those of one hash in one; a single block as it is."""
        if len(blocks) <= self._most:
            return blocks
        count = -(-len(blocks) // self._most)
        dealt = Parts(blocks.kind, self._most)
        for rows in blocks:
            dealt.add(rows, hashed(rows) % np.uint64(count))
        blocks.close()
        return dealt

    def of(self, slots: Ints) -> Rows:
        """Return what became of rows (RESOLVED), each asked for once and in ascending order."""
        found = [np.empty(0, RESOLVED)]
        for number in np.unique(slots // self._most).tolist():
            if number != self._number:
                block = self._resolved.part(number)
                self._block, self._number = block.take(np.argsort(block["slot"])), number
            found.append(self._block.take(slots[slots // self._most == number] - number * self._most))
        resolved = np.concatenate(found)
        self.unasked -= np.bincount(resolved["decision"], minlength=len(Decision))
        return resolved


_NO_PAIRS = np.empty((0, 2), "S16")
