"""Rows on their way, kept in a nameless temporary file: memory stays flat however long the exports are."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.ipc

from importer.files.spooling import temporary_writes

FRAME_ROWS = 20_000
"""Rows that are made into calls at once. A chunk leaves some 5,000: by so few, the fixed cost of a validation and
of every column operation took half of the time."""


class Spool:
    """Rows of one column set, written file by file and read back as frames in the order written.

    The temporary file has no name and is readable by nobody else (POSIX), since it holds telephone numbers.
    """

    def __init__(self) -> None:
        with temporary_writes():
            self._file = tempfile.TemporaryFile(prefix="cdr-importer-")  # noqa: SIM115 closed by `close`
        self._streams: list[int] = []
        self._end = 0
        self._kept = (0, 0)

    def close(self) -> None:
        """Forget all rows."""
        with suppress(OSError):  # what a full disk left in the buffer; `add` has raised for it
            self._file.close()

    def add(self, rows: pa.Table) -> None:
        """Write further rows of one input file; raises CannotCreateError when the disk does not take them."""
        with temporary_writes():
            self._file.seek(self._end)
            with pyarrow.ipc.new_stream(self._file, rows.schema) as writer:
                writer.write_table(rows, max_chunksize=FRAME_ROWS)
            self._file.flush()
        self._streams.append(self._end)
        self._end = self._file.tell()

    def tables(self) -> Iterator[pa.Table]:
        """Yield all rows as they were added."""
        for offset in self._streams:
            self._file.seek(offset)
            with pyarrow.ipc.open_stream(self._file) as reader:
                yield reader.read_all()

    def keep_file(self) -> None:
        """Keep the rows added so far, whatever becomes of the next file."""
        self._kept = len(self._streams), self._end

    def drop_file(self) -> None:
        """Forget the rows of a file that is not kept."""
        streams, self._end = self._kept
        del self._streams[streams:]

    def frames(self) -> Iterator[pd.DataFrame]:
        """Yield the rows of all files kept in the order written, `FRAME_ROWS` or some more at a time."""
        self.drop_file()
        waiting: list[pa.RecordBatch] = []
        for batch in chain.from_iterable(table.to_batches() for table in self.tables()):
            waiting.append(batch)
            if sum(map(len, waiting)) >= FRAME_ROWS:
                yield pa.Table.from_batches(waiting).to_pandas()
                waiting.clear()
        if waiting:
            yield pa.Table.from_batches(waiting).to_pandas()


class Parts:
    """Array rows of one type, each in a numbered part, which comes back in the order written.

    Up to ``most_rows`` they are kept in memory, beyond that in a nameless temporary file.
    """

    def __init__(self, kind: np.dtype[np.void], most_rows: int) -> None:
        self.kind = kind
        self._file = tempfile.SpooledTemporaryFile(most_rows * kind.itemsize, prefix="cdr-importer-")  # noqa: SIM115
        self._runs: dict[int, list[tuple[int, int]]] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[npt.NDArray[np.void]]:
        """Yield the rows of each part that has any."""
        return map(self.part, self._runs)

    def close(self) -> None:
        """Forget all rows."""
        with suppress(OSError):  # as above
            self._file.close()

    def add(self, rows: npt.NDArray[np.void], part: npt.NDArray[np.int64]) -> None:
        """Take rows, with the number of the part of each; raises CannotCreateError when the disk does not."""
        order = np.argsort(part, kind="stable")
        numbers, firsts = np.unique(part[order], return_index=True)
        bounds = [*(firsts + self._rows).tolist(), self._rows + len(rows)]
        with temporary_writes():
            self._file.seek(self._rows * self.kind.itemsize)
            self._file.write(rows.take(order).view(np.uint8).data)
        for number, run in zip(numbers.tolist(), pairwise(bounds), strict=True):
            self._runs.setdefault(number, []).append(run)
        self._rows = bounds[-1]

    def cut(self, rows: int) -> None:
        """Forget the rows that were added after so many."""
        runs = {number: [run for run in found if run[0] < rows] for number, found in self._runs.items()}
        self._runs = {number: found for number, found in runs.items() if found}
        self._rows = rows

    def part(self, number: int) -> npt.NDArray[np.void]:
        """Return the rows of a part."""
        runs = self._runs[number]
        rows = np.empty(sum(end - first for first, end in runs), self.kind)
        taken = 0
        for first, end in runs:
            with temporary_writes():  # what is written last may wait in a buffer
                self._file.seek(first * self.kind.itemsize)
                self._file.readinto(rows[taken : (taken := taken + end - first)].view(np.uint8).data)
        return rows
