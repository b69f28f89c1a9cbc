"""One chunk of text rows to spooled rows and index rows: everything that a row says by itself."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from importer.prepare.evidence import add_evidence, call_keys, directions, hear, with_derived, witness_of
from importer.prepare.groups import LINES_PER_FILE, NO_START, IndexRows, Rank
from importer.prepare.hints import keyless_hint, value_hints
from importer.prepare.plan import Rules
from importer.reading import Chunk
from importer.reading.conditions import Conditions, joined
from schemas import numbers
from schemas.vocabulary import PASSED_OVER, Direction, State

SPOOLED_COLUMNS = (
    "file",
    "line",
    "slot",
    "rank",
    "skip",
    "reason",
    "hint",
    "source_id",
    "key",
    "customer",
    "customer_reason",
    "customer_hint",
    "agents",
    "zohouser",
    "voiceuri",
)
"""``file`` and ``line`` place the row; ``rank`` is what it says of the outcome; ``slot`` is its place in the index
(-1: decided by itself, then ``skip`` or ``reason`` and ``hint`` say how); ``customer`` is E.164 or empty with its
reason; ``agents`` the joined names under which the export knows the agent. Integers: file, line, slot (int64),
rank (uint8); else text."""

STATE_OF = {
    Rank.BUSY: State.BUSY,
    Rank.REJECTED: State.REJECTED,
    Rank.BLOCKED: State.BLOCKED,
    Rank.INVALID: State.INVALID,
    Rank.NOTAVAILABLE: State.NOTAVAILABLE,
    Rank.NOANSWER: State.NOANSWER,
}

MOST_WITNESSES = 2_000
"""So many rows of a chunk, evenly spread, are asked what their ids prove about the zone."""

HASH_KEYS = ("cdr-importer key", "a call's key: 16")
"""Two keys of 16 bytes make 128 bits of two 64-bit hashes."""


@dataclass(slots=True)
class AgentNames:
    """The agents that rows name, numbered in the order met."""

    texts: list[str] = field(default_factory=list)
    _codes: dict[str, int] = field(default_factory=dict)

    def codes(self, values: pd.Series) -> npt.NDArray[np.int32]:
        """Return the number of each value."""
        local, distinct = pd.factorize(values)
        known = []
        for text in distinct:
            if text not in self._codes:
                self._codes[text] = len(self.texts)
                self.texts.append(text)
            known.append(self._codes[text])
        return np.array(known, dtype=np.int32)[local] if known else np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class SortedChunk:
    """A chunk after preparing: its rows, those to spool, those for the index, what was skipped without a trace."""

    rows: int
    spooled: pd.DataFrame
    index: IndexRows
    skipped: Counter[str]


class RowSorter:
    """Turns the chunks of one file into spooled rows and index rows; these are numbered from ``next_slot`` on."""

    def __init__(self, rules: Rules, agents: AgentNames, file_number: int, next_slot: int) -> None:
        self._rules = rules
        self._agents = agents
        self._file_number = file_number
        self.next_slot = next_slot
        self.witness = witness_of(rules)

    def sort(self, chunk: Chunk) -> SortedChunk:
        """Sort the next chunk of the file."""
        frame = with_derived(chunk.frame, self._rules)
        frame["call.direction"] = directions(frame, self._rules)
        kept_out = self._kept_out(frame)
        outgoing = frame.loc[~kept_out]
        if self.witness is not None:
            # Every row of a long chunk would cost 5 % of `check`; so many tell of each day as much.
            hear(self.witness, outgoing, self._rules, every=-(-len(outgoing) // MOST_WITNESSES) or 1)
        rows = add_evidence(outgoing, self._rules)
        keys = call_keys(rows, self._rules.format)
        rows["call.source_id"], rows["call.key"] = keys["source_id"], keys["key"]
        rows = self._with_customer(rows)
        in_group = (rows["call.key"] != "").to_numpy()
        rows["call.slot"] = np.where(in_group, self.next_slot - 1 + np.cumsum(in_group), -1)
        rows["call.agents"] = joined([rows[name] for name in self._rules.format.call.agent])
        index = self._index_rows(rows if in_group.all() else rows.loc[in_group])
        self.next_slot += len(index)
        if self._rules.plan.all_rows:
            spooled = self._spooled(self._listed(rows), chunk, frame.loc[kept_out])
            return SortedChunk(len(chunk), spooled, index, Counter())
        counts = frame.loc[kept_out, "call.direction"].value_counts()
        spooled = self._spooled(self._listed(rows).loc[_may_matter(rows)], chunk)
        return SortedChunk(len(chunk), spooled, index, Counter(counts.to_dict()))

    def _kept_out(self, frame: pd.DataFrame) -> pd.Series:
        """Say which rows are of no outgoing call, as far as the row itself can tell."""
        incoming = frame["call.direction"] == Direction.INCOMING.value
        kept_out = frame["call.direction"].isin([direction.value for direction in PASSED_OVER])
        if self._rules.format.call.incoming_decides:
            tied = call_keys(frame.loc[incoming], self._rules.format)["key"] != ""
            kept_out.loc[tied.index[tied]] = False
        return kept_out

    def _with_customer(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Add ``customer`` (E.164 or ""), ``customer_reason`` and ``customer_hint`` for the rows with a state."""
        column = self._rules.format.call.customer
        with_state = rows["call.said"].between(Rank.BUSY, Rank.NOANSWER)
        texts = rows.loc[with_state, column]
        read = self._rules.numbers.read_column(texts)
        usable = read["valid"] | ((rows.loc[with_state, "call.said"] == Rank.INVALID) & (read["e164"] != ""))
        faulty = read.loc[~usable, "reason"]
        hints: list[str] = []
        if len(faulty):
            told = rows.loc[faulty.index].assign(**{"call.text": texts[faulty.index], "call.reason": faulty})
            hints = value_hints(numbers.REASONS, told, self._rules, column)
        found = {
            "call.customer": read["e164"].where(usable, ""),
            "call.customer_reason": faulty,
            "call.customer_hint": pd.Series(hints, index=faulty.index, dtype="str"),
        }
        for name, values in found.items():
            rows[name] = values.reindex(rows.index, fill_value="")
        return rows

    def _index_rows(self, rows: pd.DataFrame) -> IndexRows:
        call = self._rules.format.call
        high, low = (_hashes(rows["call.key"], key) for key in HASH_KEYS)
        known = rows["call.start_time"].notna().to_numpy()
        start = np.where(
            known, rows["call.start_time"].to_numpy().astype("datetime64[s]").astype(np.int64), NO_START
        )
        conditions = Conditions(rows, self._rules.extensions())
        secondary = conditions.hold(call.secondary) if call.secondary else np.zeros(len(rows), dtype=np.bool_)
        return IndexRows(
            key_high=high,
            key_low=low,
            rank=rows["call.rank"].to_numpy(dtype=np.uint8),
            secondary=secondary,
            start=start,
            content=_hashes(joined(self._content(rows)), HASH_KEYS[0]),
            place=self._file_number * LINES_PER_FILE + rows["line"].to_numpy(dtype=np.int64),
            agent=self._agents.codes(rows["call.agents"]),
            legs=np.full(len(rows), call.legs, dtype=np.bool_),
        )

    def _content(self, rows: pd.DataFrame) -> list[pd.Series]:
        """Return the columns that tell the rows of a call apart."""
        cdr_format = self._rules.format
        if cdr_format.call.row:
            return [rows[name] for name in cdr_format.call.row]
        if cdr_format.call.legs:
            return [rows[name] for name in cdr_format.used_columns()]
        columns = [rows[name] for name in ("call.customer", "call.agents")]
        columns += [rows[name] for name in (cdr_format.call.zohouser, cdr_format.call.voiceuri) if name]
        return [*columns, rows["call.rank"].astype("str"), rows["call.start_time"].astype("str")]

    def _spooled(self, listed: pd.DataFrame, chunk: Chunk, kept_out: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return the rows that the results may list, and those ``kept_out``, in the order of the file."""
        parts = [listed]
        if chunk.bad:
            parts.append(self._bad(chunk))
        if kept_out is not None and len(kept_out):
            parts.append(self._passed_over(kept_out))
        if len(parts) > 1:
            parts = [pd.concat([part for part in parts if len(part)]).sort_values("line", kind="stable")]
        return parts[0]

    def _listed(self, rows: pd.DataFrame) -> pd.DataFrame:
        call = self._rules.format.call
        keyless = (rows["call.slot"] < 0) & (rows["call.problem"] == "")
        columns = {
            "file": np.full(len(rows), self._file_number, dtype=np.int64),
            "line": rows["line"],
            "skip": "",
            **{name: rows[own] for name, own in _OWN_COLUMNS.items()},
            "reason": rows["call.problem"].where(~keyless, "no_call_id"),
            "hint": rows["call.problem_hint"].where(~keyless, keyless_hint(self._rules)),
            "zohouser": rows[call.zohouser] if call.zohouser else "",
            "voiceuri": rows[call.voiceuri] if call.voiceuri else "",
        }
        return pd.DataFrame(columns, index=rows.index)[[*SPOOLED_COLUMNS]]

    def _bad(self, chunk: Chunk) -> pd.DataFrame:
        bad = pd.DataFrame(
            {
                "line": [row.line for row in chunk.bad],
                "reason": [row.reason for row in chunk.bad],
                "hint": [row.hint for row in chunk.bad],
            }
        )
        return self._filled(bad, rank=Rank.PROBLEM)

    def _passed_over(self, kept_out: pd.DataFrame) -> pd.DataFrame:
        shown = pd.DataFrame({"line": kept_out["line"], "skip": kept_out["call.direction"]})
        shown["source_id"] = call_keys(kept_out, self._rules.format)["source_id"]
        return self._filled(shown, rank=Rank.IGNORE)

    def _filled(self, frame: pd.DataFrame, rank: Rank) -> pd.DataFrame:
        defaults = {"file": self._file_number, "slot": -1, "rank": int(rank)}
        for name in SPOOLED_COLUMNS:
            if name not in frame:
                frame[name] = defaults.get(name, "")
        return frame[[*SPOOLED_COLUMNS]].astype(_SPOOLED_TYPES)


_SPOOLED_TYPES = dict.fromkeys(SPOOLED_COLUMNS, "str") | {
    "file": "int64",
    "line": "int64",
    "slot": "int64",
    "rank": "uint8",
}


_OWN_COLUMNS = {
    "slot": "call.slot",
    "rank": "call.said",
    "source_id": "call.source_id",
    "key": "call.key",
    "agents": "call.agents",
    "customer": "call.customer",
    "customer_reason": "call.customer_reason",
    "customer_hint": "call.customer_hint",
}
"""Spooled columns, and those of preparing that they are. A format's column names hold no dot: what preparing adds
never meets the export's own."""


def _may_matter(rows: pd.DataFrame) -> pd.Series:
    """Say which rows the results list even without the skipped ones: calls, and rows that are no use."""
    rank = rows["call.rank"]
    return rank.between(Rank.BUSY, Rank.NOANSWER) | (rank == Rank.PROBLEM) | (rows["call.slot"] < 0)


def _hashes(values: pd.Series, key: str) -> npt.NDArray[np.uint64]:
    if not len(values):
        return np.zeros(0, dtype=np.uint64)
    return pd.util.hash_array(values.to_numpy(dtype=object), hash_key=key, categorize=False)
