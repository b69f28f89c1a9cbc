"""From detected files to calls and outcomes: read every file once, then decide, then hand out in input order."""

import ctypes
import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from importer.formats.detected import Detection
from importer.formats.language import CauseTable
from importer.prepare.calls import CallMaker, InputFile, Prepared, skipped_for
from importer.prepare.endpoints import Endpoints
from importer.prepare.evidence import add_zone_evidence, derived_of, with_derived, zone_evidence_of
from importer.prepare.file_evidence import FileEvidence, require_country
from importer.prepare.groups import LINES_PER_FILE, Rows
from importer.prepare.index import Index
from importer.prepare.plan import PreparePlan, Rules, headers_of
from importer.prepare.rows import AgentNames, RowPreparer
from importer.prepare.spool import Spool, tables_in
from importer.prepare.zones import ZoneEvidence, require_agreement, require_proof
from importer.reading.chunks import read_chunks
from importer.records import ResultRow
from schemas.numbers import NumberBook, NumberRules
from schemas.vocabulary import Outcome, Role

ZONE_BYTES, MOST_ZONE_LINES = 512 * 1024, 25
"""Of a file of so many bytes each line is held against the zone by its id, of twice as many one of two, of larger
ones at least one of 25."""

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
"""Options of glibc's `mallopt`: from how many bytes on memory is the system's own piece, and is given back."""

_book = cache(NumberBook)
"""A worker remembers the numbers of one part of a file when it reads the next: a tenth of its time."""


@dataclass(frozen=True, slots=True)
class PreparedPart:
    """What a file, or a part of it, comes to by itself: its rows, agents and places in the index count from 0.

    ``spooled`` are the rows that the results may list, ``index`` (INDEX_ROW) and ``joins`` (JOIN) what all rows
    leave in the index; ``asked`` the calls of which a worker without the ledger would ask it.
    """

    spooled: bytes
    index: Rows
    joins: Rows
    agents: list[str]
    evidence: FileEvidence
    asked: Sequence[str] = ()


def prepare_part(
    causes: Mapping[str, CauseTable],
    plan: PreparePlan,
    detection: Detection,
    roles: Mapping[str, Role] | None = None,
) -> PreparedPart:
    """Prepare a file or a part of it by itself, for `Preparation.take`; ``roles`` are what the whole file proves.

    Raises InputUnusableError, also for a part that cannot be read by itself.
    """
    with Preparation(causes, plan) as own:
        return own.prepared_part(detection, roles)


def _placed(rows: pa.Table, file: int, slots: int) -> pa.Table:
    """Return spooled rows of a part as those of this file, behind so many rows of the index."""
    slot = rows["slot"]
    behind = pc.if_else(pc.less(slot, 0), slot, pc.add(slot, slots))
    files = pa.array(np.full(len(rows), file, dtype=np.int64))
    return rows.set_column(rows.column_names.index("file"), "file", files).set_column(
        rows.column_names.index("slot"), "slot", behind
    )


def _keep_memory() -> None:
    """Have glibc keep what is freed, for the next chunk: to have pages cleared took 5 % of `check`.

    Of Arrow's own ways to get memory, jemalloc takes 3 % less time and 5 % less memory than mimalloc.
    """
    with suppress(AttributeError):  # macOS and musl have no such call
        for option, most_bytes in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 256 << 20)):
            ctypes.CDLL(None).mallopt(option, most_bytes)
    with suppress(NotImplementedError):  # pyarrow has it on Linux
        pa.set_memory_pool(pa.jemalloc_memory_pool())


class Preparation:
    """Prepares the files of one run; use as a context manager, since rows wait in a temporary file.

    First `read` each file, then take `results` once. ``rows`` counts the records read, ``skipped`` by reason
    those that no result row will name; it is complete when `results` is used up.
    """

    def __init__(self, causes: Mapping[str, CauseTable], plan: PreparePlan) -> None:
        _keep_memory()
        self._causes = causes
        self._plan = plan
        self._spool = Spool()
        self._index = Index(plan.index_rows)
        self._files: list[InputFile] = []
        self._agent_names = AgentNames()
        self.rows = 0
        self.skipped: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._index.close()
        self._spool.__exit__(kind, error, trace)

    def read(self, detection: Detection, name: str, progress: Callable[[int], None]) -> int:
        """Read one file whole and return its rows; ``progress`` gets the count of each chunk.

        Raises InputUnusableError when the file is damaged; nothing of it is kept then. Raises ConfigurationError
        when its ids prove another zone than the operator's, or do not prove one without summer time, and when its
        numbers speak for another country.
        """
        rules = self._rules(detection)
        preparer = self._prepared(detection, rules, progress)
        if preparer.evidence().must_repeat():
            # What stands behind a name was proved only after rows of it had been decided: read again, knowing it.
            preparer = self._prepared(detection, preparer.rules, lambda _: progress(0), is_second=True)
        return self._kept(name, detection, preparer.rules, preparer.evidence())

    def prepared_part(self, detection: Detection, roles: Mapping[str, Role] | None) -> PreparedPart:
        """Read what is to be the only file, and return what it has come to."""
        rules = replace(self._rules(detection), roles=roles or {})
        preparer = self._prepared(detection, rules, lambda _: None, is_second=roles is not None)
        agents, evidence = self._agent_names.texts, preparer.evidence()
        return PreparedPart(self._spool.content(), *self._index.content(), agents, evidence)

    def take(
        self,
        detection: Detection,
        name: str,
        parts: Iterable[PreparedPart],
        roles: Mapping[str, Role] | None = None,
    ) -> Mapping[str, Role] | None:
        """Take the parts of a file that were prepared elsewhere, with these roles, as if they were read here.

        Return the roles with which all of them have to be prepared again; else None. Raises as `read` does.
        """
        self._drop_file()
        first, *others = (self._added(part) for part in parts)
        for later in others:
            first.join(later)
        if roles is None and first.must_repeat():
            return first.endpoints.roles()
        rules = replace(self._rules(detection), roles=first.endpoints.roles() if roles is None else roles)
        self._kept(name, detection, rules, first)
        if self._plan.gaps is not None:
            self._plan.gaps.join(first.gaps)
        return None

    def _added(self, part: PreparedPart) -> FileEvidence:
        """Add the rows of a part behind those that are here, and return its evidence."""
        number, slots = len(self._files), len(self._index)
        codes = self._agent_names.codes(pd.Series(part.agents, dtype="str"))
        index = part.index.copy()
        index["slot"] += slots
        index["place"] += number * LINES_PER_FILE
        index["agent"] = codes[index["agent"]]
        self._index.add(index, part.joins)
        self._spool.add(_placed(table, number, slots) for table in tables_in(part.spooled))
        return part.evidence

    def _kept(self, name: str, detection: Detection, rules: Rules, evidence: FileEvidence) -> int:
        """Keep a file that is read to its end, and return its rows; raises ConfigurationError as `read` does."""
        if evidence.zone is not None:
            require_agreement(evidence.zone, name)
            if evidence.read and not detection.times_carry_offsets():
                require_proof(evidence.zone, name)
        require_country(evidence.country, rules, name)
        self._files.append(InputFile(name, rules, evidence.keeps_zeros))
        self._index.keep_file()
        self._spool.keep_file()
        self.skipped += evidence.skipped
        self.rows += evidence.read
        return evidence.read

    def _drop_file(self) -> None:
        self._index.drop_file()
        self._spool.drop_file()

    def _prepared(
        self, detection: Detection, rules: Rules, progress: Callable[[int], None], *, is_second: bool = False
    ) -> RowPreparer:
        """Spool all rows of a file and return the preparer with what else they gave."""
        self._drop_file()
        # Every row of a long file would cost 5 % of `check`; some of them prove of each day as much.
        rules = replace(rules, zone_lines=min(1 + detection.file.size() // ZONE_BYTES, MOST_ZONE_LINES))
        preparer = RowPreparer(rules, self._agent_names, len(self._files), self._index, is_second=is_second)

        def tables() -> Iterator[pa.Table]:
            # `map` forgets a chunk once it is prepared: a variable would hold it while the next one is read.
            before = 0
            for spooled in map(preparer.prepare, read_chunks(detection, self._plan.chunk_rows)):
                # pandera's errors hold frames in cycles, and the collector comes seldom: up to 200 MB of chunks.
                gc.collect(1)
                pa.default_memory_pool().release_unused()  # else Arrow keeps some 40 MB of it
                progress(preparer.read - before)
                before = preparer.read
                yield pa.Table.from_pandas(spooled, preserve_index=False)

        self._spool.add(tables())
        return preparer

    def results(self) -> Iterator[list[Prepared]]:
        """Decide every call and yield calls and result rows in input order, some thousands at a time."""
        pa.default_memory_pool().release_unused()
        places = self._index.resolve()
        keys = [pd.DataFrame({"source_id": "", "key": ""}, index=[], dtype="str")]
        for frame in self._spool.frames() if len(places) else ():  # rows from which joined calls take theirs
            frame.index = pd.Index(frame["file"] * LINES_PER_FILE + frame["line"])
            keys.append(frame.loc[frame.index.isin(places), ["source_id", "key"]])
        maker = CallMaker(self._files, self._agent_names.texts, self._plan, pd.concat(keys))
        for frame in self._spool.frames():
            slots = frame["slot"].to_numpy()
            yield self._listed(maker.make(frame, self._index.of(slots[slots >= 0])))
        self.skipped += skipped_for(self._index.unasked)

    def _listed(self, rows: list[Prepared]) -> list[Prepared]:
        """Count the skipped rows instead of listing them, unless all rows are wanted."""
        if self._plan.all_rows:
            return rows
        listed: list[Prepared] = []
        for row in rows:
            if isinstance(row, ResultRow) and row.outcome is Outcome.SKIPPED:
                self.skipped[row.reason] += 1
            else:
                listed.append(row)
        return listed

    def roles(self, detection: Detection) -> dict[str, Role]:
        """Return what all rows of a file prove of the names at both ends of calls."""
        rules = self._rules(detection)
        endpoints = Endpoints(rules.format.endpoint)
        for chunk in read_chunks(detection, self._plan.chunk_rows) if endpoints.rules else ():
            endpoints.add(derived_of(chunk.frame, rules))
        return endpoints.roles()

    def zone_evidence(self, detection: Detection) -> ZoneEvidence | None:
        """Return what the ids of all rows of a file prove about its clock, None where they tell nothing."""
        rules = self._rules(detection)
        evidence = zone_evidence_of(rules)
        if evidence is not None:
            for chunk in read_chunks(detection, self._plan.chunk_rows):
                add_zone_evidence(evidence, with_derived(chunk.frame, rules), rules)
        return evidence if evidence is not None and evidence.counts else None

    def _rules(self, detection: Detection) -> Rules:
        policies = self._plan.policies.of(detection.format)
        country, plain_digits = self._plan.country, detection.format.numbers.plain_digits
        return Rules(
            format=detection.format,
            causes=self._causes,
            plan=self._plan,
            numbers=_book(NumberRules(country, plain_digits, policies.outside_prefix)),
            plain_numbers=_book(NumberRules(country, plain_digits)),
            policies=policies,
            headers=headers_of(detection),
            is_resaved=detection.rewriting is not None,
            shows_seconds=detection.shows_seconds(),
        )
