"""From detected files to calls and outcomes: read every file once, then decide, then hand out in input order."""

import ctypes
import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from importer.formats.dates import without_seconds
from importer.formats.detected import Detection
from importer.formats.language import CauseTable
from importer.prepare.calls import CallMaker, Prepared
from importer.prepare.evidence import conditions_on
from importer.prepare.file_evidence import Endpoints, FileEvidence, require_country
from importer.prepare.groups import LINES_PER_FILE, SKIPPED_FOR, Decision, Index, Rows
from importer.prepare.plan import PreparePlan, Rules
from importer.prepare.rows import RowPreparer, numbered
from importer.prepare.spool import Spool
from importer.prepare.starts import add_zone_evidence, zone_evidence_of
from importer.prepare.zones import require_zone
from importer.reading.chunks import read_chunks
from importer.reading.conditions import EXTENSION, Extensions
from importer.records import ResultRow, ignore
from schemas.numbers import NumberBook
from schemas.plans import NumberRules
from schemas.vocabulary import Outcome, Role

ZONE_BYTES, MOST_ZONE_LINES = 512 * 1024, 25
"""Of a file of so many bytes each line is held against the zone by its id, of twice as many one of two, of larger
ones at least one of 25."""

ENOUGH_ROWS = 3
"""From so many rows on, an export whose column of ids is empty lacks it; single rows have no id every night."""

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
"""Options of glibc's `mallopt`: from how many bytes on memory is the system's own piece, and is given back."""

_book = cache(NumberBook)
"""A worker remembers the numbers of one part of a file when it reads the next: a tenth of its time."""


@dataclass(frozen=True, slots=True)
class PreparedPart:
    """What a file, or a part of it, comes to by itself: its rows, agents and places in the index count from 0.

    ``spooled`` are the rows that the results may list, ``index`` (INDEX_ROW) and ``joins`` (JOIN) what all rows
    leave in the index; ``asked`` the calls that a worker without the ledger has to have looked up.
    """

    spooled: list[pa.Table]
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
        preparer = own._prepared(detection, own._rules(detection, roles), ignore, is_second=roles is not None)
        return PreparedPart([*own._spool.tables()], *own._index.content(), [*own._agents], preparer.evidence)


class Preparation:
    """Prepares the files of one run; use as a context manager, since rows wait in a temporary file.

    First `read` each file, then take `results` once. ``rows`` counts the records read, ``skipped`` by reason
    those that no result row will name; it is complete when `results` is used up.
    """

    def __init__(self, causes: Mapping[str, CauseTable], plan: PreparePlan) -> None:
        with suppress(AttributeError):  # macOS and musl have no such call
            # Have glibc keep what is freed, for the next chunk: to have pages cleared took 5 % of `check`.
            for option, most_bytes in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 256 << 20)):
                ctypes.CDLL(None).mallopt(option, most_bytes)
        with suppress(NotImplementedError):  # pyarrow has it on Linux: 3 % less time, 5 % less memory
            pa.set_memory_pool(pa.jemalloc_memory_pool())
        self._causes = causes
        self._plan = plan
        self._spool = Spool()
        self._index = Index(plan.index_rows)
        self._files: list[Rules] = []
        self._agents: dict[str, int] = {}  # as rows name them, numbered in the order met
        self.rows = 0
        self.skipped: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()
        self._spool.close()

    def read(self, detection: Detection, name: str, progress: Callable[[int], None]) -> int:
        """Read one file whole and return its rows; ``progress`` gets the count of each chunk.

        Raises InputUnusableError when the file is damaged; nothing of it is kept then. Raises ConfigurationError
        when its ids prove another zone than the operator's, or do not prove one without summer time, and when its
        numbers speak for another country.
        """
        rules = self._rules(detection)
        preparer = self._prepared(detection, rules, progress)
        if preparer.evidence.must_repeat():
            # What stands behind a name was proved only after rows of it had been decided: read again, knowing it.
            preparer = self._prepared(detection, preparer.rules, lambda _: progress(0), is_second=True)
        return self._kept(name, detection, preparer.rules, preparer.evidence)

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
        self._index.drop_file()
        self._spool.drop_file()
        evidences = []
        for part in parts:
            number, slots = len(self._files), len(self._index)
            index, agents = part.index.copy(), numbered(self._agents, pd.Series(part.agents, dtype="str"))
            index["slot"] += slots
            index["place"] += number * LINES_PER_FILE
            index["agent"] = agents[index["agent"]]
            self._index.add(index, part.joins)
            for rows in part.spooled:
                slot, files = rows["slot"], pa.array(np.full(len(rows), number, dtype=np.int64))
                behind = pc.if_else(pc.less(slot, 0), slot, pc.add(slot, slots))
                for column, values in (("file", files), ("slot", behind)):
                    rows = rows.set_column(rows.column_names.index(column), column, values)
                self._spool.add(rows)
            evidences.append(part.evidence)
        first, *others = evidences
        for later in others:
            first.join(later)
        if roles is None and first.must_repeat():
            return first.endpoints.roles()
        roles = first.endpoints.roles() if roles is None else roles
        self._kept(name, detection, self._rules(detection, roles), first)
        if self._plan.gaps is not None:
            self._plan.gaps.join(first.gaps)
        return None

    def _kept(self, name: str, detection: Detection, rules: Rules, evidence: FileEvidence) -> int:
        """Keep a file that is read to its end, and return its rows; raises ConfigurationError as `read` does."""
        if evidence.zone is not None:
            is_local = evidence.read > 0 and not detection.times_carry_offsets()
            require_zone(evidence.zone, name, must_be_proved=is_local)
        require_country(evidence, rules, name)
        filled = evidence.filled if evidence.read >= ENOUGH_ROWS else frozenset(rules.headers)
        self._files.append(replace(rules, name=name, keeps_zeros=evidence.keeps_zeros, filled=filled))
        self._index.keep_file()
        self._spool.keep_file()
        self.skipped += evidence.skipped
        self.rows += evidence.read
        return evidence.read

    def _prepared(
        self, detection: Detection, rules: Rules, progress: Callable[[int], None], *, is_second: bool = False
    ) -> RowPreparer:
        """Spool all rows of a file and return the preparer with what else they gave."""
        self._index.drop_file()
        self._spool.drop_file()
        # Every row of a long file would cost 5 % of `check`; some of them prove of each day as much.
        rules = replace(rules, zone_lines=min(1 + detection.file.size() // ZONE_BYTES, MOST_ZONE_LINES))
        preparer = RowPreparer(rules, self._agents, len(self._files), self._index, is_second=is_second)
        before, evidence = 0, preparer.evidence
        # `map` forgets a chunk once it is prepared: a variable would hold it while the next one is read.
        for spooled in map(preparer.prepare, read_chunks(detection, self._plan.chunk_rows)):
            # pandera's errors hold frames in cycles, and the collector comes seldom: up to 200 MB of chunks.
            gc.collect(1)
            pa.default_memory_pool().release_unused()  # else Arrow keeps some 40 MB of it
            progress(evidence.read - before)
            before = evidence.read
            self._spool.add(spooled)
        return preparer

    def results(self) -> Iterator[list[Prepared]]:
        """Decide every call and yield calls and result rows in input order, some thousands at a time."""
        pa.default_memory_pool().release_unused()
        places = self._index.resolve()
        keys = [pd.DataFrame({"source_id": "", "key": ""}, index=[], dtype="str")]
        for frame in self._spool.frames() if len(places) else ():  # rows from which joined calls take theirs
            frame.index = pd.Index(frame["file"] * LINES_PER_FILE + frame["line"])
            keys.append(frame.loc[frame.index.isin(places), ["source_id", "key"]])
        maker = CallMaker(self._files, [*self._agents], self._plan, pd.concat(keys))
        for frame in self._spool.frames():
            slots = frame["slot"].to_numpy()
            listed: list[Prepared] = []
            for row in maker.make(frame, self._index.of(slots[slots >= 0])):
                if not self._plan.all_rows and isinstance(row, ResultRow) and row.outcome is Outcome.SKIPPED:
                    self.skipped[row.reason] += 1
                else:
                    listed.append(row)
            yield listed
        for code, count in enumerate(self._index.unasked.tolist()):  # rows of the index that were never spooled
            decision = Decision(code)
            if count and decision is not Decision.LISTED:
                if decision not in SKIPPED_FOR:
                    raise AssertionError(f"rows of the kind {decision.name} were not kept")
                self.skipped[SKIPPED_FOR[decision]] += count

    def evidence(self, detection: Detection) -> FileEvidence:
        """Return what all rows of a file prove of its clock, None for nothing, and of the names at both ends."""
        rules = self._rules(detection)
        evidence = FileEvidence(zone_evidence_of(rules), None, Endpoints(rules.format.endpoint))
        is_asked = evidence.zone is not None or rules.format.endpoint
        for chunk in read_chunks(detection, self._plan.chunk_rows) if is_asked else ():
            conditions = conditions_on(chunk.frame, rules)
            evidence.endpoints.add(conditions)
            if evidence.zone is not None:
                frame = conditions.with_texts(rules.format.derived)
                add_zone_evidence(evidence.zone, frame, rules)
        if evidence.zone is not None and not evidence.zone.counts:
            evidence.zone = None
        return evidence

    def _rules(self, detection: Detection, roles: Mapping[str, Role] | None = None) -> Rules:
        policies = self._plan.policies.of(detection.format)
        country, numbers = self._plan.country, detection.format.numbers
        own, listed = policies.extensions, self._plan.agents.extensions
        is_resaved, formats = detection.rewriting is not None, detection.format.time.formats
        headers = {name: name for name in detection.positions}  # of a file without header
        if detection.header:
            cells = {name: detection.header[place] for name, place in detection.positions.items()}
            headers = {name: " ".join(cell.split())[:60] for name, cell in cells.items()}
        return Rules(
            format=detection.format,
            causes=self._causes,
            plan=self._plan,
            numbers=_book(NumberRules(country, numbers.plain_digits, policies.outside_prefix)),
            plain_numbers=_book(NumberRules(country, numbers.plain_digits)),
            policies=policies,
            headers=headers,
            extensions=Extensions(own or EXTENSION, listed, roles or {}, policies.trunks, bool(own)),
            time_formats=(*formats, *without_seconds(formats)) if is_resaved else formats,
            is_resaved=is_resaved,
            shows_seconds=detection.shows_seconds(),
            had_groups=bool(detection.grouped),
        )
