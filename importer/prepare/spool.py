"""Rows on their way, kept in a nameless temporary file: memory stays flat however long the exports are."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

import pandas as pd
import pyarrow as pa
import pyarrow.ipc

from importer.files import temporary_writes

FRAME_ROWS = 20_000
"""Rows that are made into calls at once. A chunk leaves some 5,000: by so few, the fixed cost of a validation and
of every column operation took half of the time."""


class Spool:
    """Frames of one column set, written file by file and read back in the order written.

    The temporary file has no name and is readable by nobody else (POSIX), since it holds telephone numbers.
    """

    def __init__(self) -> None:
        with temporary_writes():
            self._file = tempfile.TemporaryFile(prefix="cdr-importer-")  # noqa: SIM115 closed by __exit__
        self._streams: list[int] = []
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what a full disk left in the buffer; `add_file` has raised for it
            self._file.close()

    def add_file(self, frames: Iterable[pd.DataFrame]) -> None:
        """Write all frames of one input file; when making them fails half-way, nothing of it stays.

        Raises CannotCreateError when the disk does not take them, and what ``frames`` raises.
        """
        with temporary_writes():
            self._file.seek(self._end)
            self._file.truncate()
        writer = None
        for frame in frames:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            with temporary_writes():
                if writer is None:
                    writer = pyarrow.ipc.new_stream(self._file, table.schema)
                writer.write_table(table, max_chunksize=FRAME_ROWS)
        if writer is not None:
            with temporary_writes():
                writer.close()
                self._file.flush()
            self._streams.append(self._end)
            self._end = self._file.tell()

    def drop_file(self) -> None:
        """Forget the frames of the file that was added last: they are made anew."""
        self._end = self._streams.pop() if self._streams else 0

    def frames(self) -> Iterator[pd.DataFrame]:
        """Yield the rows of all files in the order written, `FRAME_ROWS` or some more at a time."""
        waiting: list[pa.RecordBatch] = []
        for batch in self._batches():
            waiting.append(batch)
            if sum(map(len, waiting)) >= FRAME_ROWS:
                yield pa.Table.from_batches(waiting).to_pandas()
                waiting.clear()
        if waiting:
            yield pa.Table.from_batches(waiting).to_pandas()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for offset in self._streams:
            self._file.seek(offset)
            with pyarrow.ipc.open_stream(self._file) as reader:
                yield from reader
