"""One chunk of text rows to spooled rows and index rows: the evidence of each row by itself."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from importer.formats.language import Test
from importer.formats.resaved import POINTED_ID
from importer.prepare.evidence import add_evidence, conditions_on
from importer.prepare.file_evidence import MOST_TEXTS, Endpoints, FileEvidence
from importer.prepare.groups import INDEX_ROW, JOIN, LINES_PER_FILE, NO_START, STATE_RANKS, Index, Keys, Rank, Rows
from importer.prepare.hints import keyless_hint, value_hints
from importer.prepare.keys import PLUS, UUID, call_id_of, call_keys, plain_keys, without_decimals, zeros_behind
from importer.prepare.plan import Rules
from importer.prepare.starts import DECIDED, add_zone_evidence, known_starts, zone_evidence_of
from importer.reading.chunks import Chunk
from importer.reading.conditions import Coded, Conditions, Flags, joined
from schemas.call import customer_schema, numbers_only
from schemas.plans import SHORTEST_NUMBER, digits_in
from schemas.vocabulary import ATTENDED_SINCE, PASSED_OVER, Direction, State

SPOOLED_COLUMNS = dict.fromkeys(("file", "line", "slot"), pa.int64()) | {"rank": pa.uint8()}
SPOOLED_COLUMNS |= dict.fromkeys(("skip", "reason", "hint", "source_id", "key", "customer"), pa.large_string())
SPOOLED_COLUMNS |= dict.fromkeys(("agents", "zohouser", "voiceuri", "content"), pa.large_string())
"""Columns with their types. ``file`` and ``line`` place the row; ``rank`` is what it says of the outcome; ``slot``
is its place in the index (-1: decided by itself, then ``skip`` or ``reason`` and ``hint`` say how); ``customer``
is E.164, or in its place the reason why there is none, of which ``hint`` speaks where ``reason`` is empty;
``agents`` the joined names under which the export knows the agent. A row that shows attended a call that the
ledger holds as not attended has the reason `ATTENDED_SINCE`. ``content`` distinguishes rows without a key."""

STATE_OF = {Rank[state.name]: state for state in State}

_hashes = partial(pd.util.hash_array, categorize=False)

FEW_ROWS = 5_000
"""To index all rows of a file that begins with a chunk of no more costs less than to read it a second time."""

UNIQUE_ID = f"[0-9A-Fa-f]{{32}}|{UUID}"
"""An id that no program cuts and no system gives twice: rows of other agents and customers, such as consultations,
and of later days, such as calls back, are legs of its call."""

SHORTEST_ID = 6
"""In a record of another shape a cell with fewer characters may be anything, and no id."""

HASH_KEYS = ("cdr-importer key", "a call's key: 16")
"""Two keys of 16 bytes make 128 bits of two 64-bit hashes."""


def numbered(names: dict[str, int], values: pd.Series) -> npt.NDArray[np.int32]:
    """Return the number of each value among ``names``, which are numbered in the order met."""
    codes, distinct = pd.factorize(values)
    return np.array([names.setdefault(text, len(names)) for text in distinct], dtype=np.int32)[codes]


class RowPreparer:
    """Turns the chunks of one file into spooled rows and rows of the index, and collects its ``evidence``.

    ``agents`` numbers the agents that rows name. ``rules`` hold what the rows read so far prove of the names at
    both ends of calls. With ``is_second`` they hold what the whole file proves. Then, in a small file and where
    there are several, rows that came in or stayed inside go into the index too, since they decide for undirected
    and secondary ones.
    """

    def __init__(
        self, rules: Rules, agents: dict[str, int], file_number: int, index: Index, *, is_second: bool = False
    ) -> None:
        self.rules = rules
        self._agents = agents
        self._file_number = file_number
        self._index = index
        self._is_second = is_second
        self.evidence = FileEvidence(zone_evidence_of(rules), rules.plan.gaps, Endpoints(rules.format.endpoint))
        self.evidence.indexes_leads = is_second or (rules.plan.is_one_of_several and bool(rules.format.endpoint))

    def prepare(self, chunk: Chunk) -> pa.Table:
        """Prepare the next chunk of the file and return its rows to be spooled (SPOOLED_COLUMNS)."""
        evidence, frame = self.evidence, chunk.frame
        if not evidence.read and len(chunk) <= FEW_ROWS:
            evidence.indexes_leads |= bool(evidence.endpoints.rules)
        evidence.read += len(chunk)
        empty = (self.rules.format.id_columns() & {*frame}) - evidence.filled
        evidence.filled |= {name for name in empty if (frame[name] != "").any()}
        conditions = conditions_on(frame, self.rules)
        if evidence.endpoints.rules and not self._is_second:
            evidence.endpoints.add(conditions)
            roles = evidence.endpoints.roles()
            if roles != self.rules.extensions.roles:  # derived columns are made by what the rows prove, too
                self.rules = replace(self.rules, extensions=replace(self.rules.extensions, roles=roles))
                conditions = conditions_on(frame, self.rules)
            evidence.first_roles = evidence.first_roles or [roles]
        if evidence.gaps is not None:
            evidence.gaps.add(known_starts(conditions, self.rules))
        kept_out = self._kept_out(frame, conditions)
        rows = frame.loc[~kept_out]
        conditions = conditions.select(~kept_out, rows)
        rows = conditions.with_texts(self.rules.format.text_columns() & self.rules.format.derived.keys())
        if evidence.zone is not None:
            add_zone_evidence(evidence.zone, rows, self.rules)
        rows = add_evidence(rows, conditions, self.rules)
        rows["call.held"], rows["call.attended_since"] = self._held(rows, conditions)
        rows = self._with_customer(rows)
        in_group = (rows["call.key"] != "").to_numpy()
        rows["call.slot"] = np.where(in_group, len(self._index) - 1 + np.cumsum(in_group), -1)
        rows["call.agents"] = joined([rows[name] for name in self.rules.format.call.agent])
        grouped = rows if in_group.all() else rows.loc[in_group]
        conditions = conditions if in_group.all() else conditions.select(in_group, grouped)
        self._index.add(*self._index_rows(grouped, conditions))
        self._index.add(self._misshapen(chunk.guessed, SHORTEST_ID), np.empty(0, JOIN))
        if POINTED_ID in (self.rules.format.call.cut_id or ""):
            whole = without_decimals(frame[[*chunk.guessed.columns]], self.rules.format)
            self._index.add(self._misshapen(whole, shortest_id=1), np.empty(0, JOIN))
        return self._spooled(rows, chunk, kept_out)

    def _kept_out(self, frame: pd.DataFrame, conditions: Conditions) -> Flags:
        """Return which rows are of no outgoing call, as far as the row itself shows.

        Adds ``call.direction``, a Direction as text, "" where no rule of the format holds, and ``call.secondary``.
        """
        evidence, call = self.evidence, self.rules.format.call
        words, found = ["", *Direction, "unknown"], np.zeros(len(frame), dtype=np.int64)
        for rule in self.rules.format.direction:
            if (found != 0).all():
                break
            found[(found == 0) & conditions.hold(rule.when)] = words.index(rule.value)
        frame["call.direction"] = pd.array([*words[:-1], ""], dtype="str").take(found)
        kept_out = np.isin(found, [*map(words.index, PASSED_OVER)])
        secondary = frame["call.secondary"] = conditions.hold(call.secondary) & bool(call.secondary)
        came_in = found == words.index(Direction.INCOMING)
        # Secondary ones decide for none, but join rows: a call may go through several Local channels in a row.
        leads = came_in | (found == words.index(Direction.INTERNAL))
        is_open = (found == 0) | (found == words.index("unknown"))
        are_missing = evidence.leads and not evidence.indexes_leads  # those of the chunks before
        evidence.leads |= bool(leads.any())
        evidence.is_led |= bool((is_open | (secondary & ~kept_out)).any())
        evidence.indexes_leads |= evidence.leads and evidence.is_led and not are_missing
        deciding = leads if evidence.indexes_leads else came_in
        decides = call.incoming_decides or evidence.indexes_leads
        columns = self.rules.format.id_columns()
        if decides or self.rules.plan.all_rows:  # the ids of rows that stay out are read too
            conditions.with_texts(columns & self.rules.format.derived.keys())
        if decides:
            _, keys = call_keys(frame.loc[deciding, [*columns]], self.rules.format)
            kept_out[np.flatnonzero(deciding)[keys != ""]] = False
        return kept_out

    def _held(self, rows: pd.DataFrame, conditions: Conditions) -> tuple[Flags, Flags]:
        """Return of which rows the ledger has the id, and which may show attended what it has as not attended.

        Asked are attended rows, rows by which a call came in, and rows of a state that are joined to rows with
        other ids: one may be attended, and an export that ended in between may have given the call the id of any.
        """
        held, attended_since = np.zeros((2, len(rows)), dtype=np.bool_)
        if self.rules.plan.held is not None:
            reaching = (Rank.INCOMING, Rank.ATTENDED, Rank.UNDIRECTED_ATTENDED)
            asked = rows["call.rank"].isin(reaching).to_numpy()
            of_state = rows["call.rank"].between(*STATE_RANKS).to_numpy()
            for name in self.rules.format.call.joins:
                asked = asked | of_state & conditions.hold({name: Test(empty=False)})
            places = np.flatnonzero(asked & (rows["call.key"] != "").to_numpy())
            texts = (rows[name].iloc[places].tolist() for name in ("call.source_id", "call.key"))
            call_ids = [call_id_of(self.rules.plan.site, *text) for text in zip(*texts, strict=True)]
            found = self.rules.plan.held(call_ids)
            held[places] = [call_id in found for call_id in call_ids]
            attended_since[places] = [found.get(call_id, False) for call_id in call_ids]
        return held, attended_since

    def _with_customer(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Add ``call.customer``, E.164 or why there is none (with ``call.hint``), for rows that matter."""
        rules, call = self.rules, self.rules.format.call
        with_state = rows["call.outcome_rank"].between(*STATE_RANKS)
        with_state |= rows["call.attended_since"] & (rows["call.rank"] != Rank.INCOMING)
        asked = {call.customer, call.sent_number, *rules.format.origins(call.customer)} & {*rows}
        some = rows.loc[with_state, [*asked, "call.outcome_rank", "call.problem"]]
        invalid = (Rank.INVALID, *([Rank.OUR_SIDE_COUNTED] if rules.policies.our_side == State.INVALID else []))
        dialled = pd.DataFrame(
            {
                "customer_number": some[call.customer],
                "sent": some[call.sent_number] if call.sent_number else "",
                "is_invalid": some["call.outcome_rank"].isin(invalid),
            }
        )
        national, international = self.evidence.national, self.evidence.international
        if min(len(national), len(international)) < MOST_TEXTS:
            for text in some[call.customer].unique().tolist():
                kind = international if "+" in text else national
                if len(kind) < MOST_TEXTS and len(digits_in(text)) >= SHORTEST_NUMBER:
                    reading = rules.numbers.read(text)
                    kind[text] = "" if reading.reason else reading.e164
        read = customer_schema(rules.numbers, rules.plain_numbers).validate(dialled)["customer_number"]
        rows["call.customer"] = read.reindex(rows.index, fill_value="")
        faults = read[(numbers_only(read) == "") & (some["call.problem"] == "")]
        if len(faults):
            hints = value_hints(faults, some[call.customer], some, rules, call.customer)
            rows.loc[faults.index, "call.hint"] = hints
        return rows

    def _index_rows(self, rows: pd.DataFrame, conditions: Conditions) -> tuple[Rows, Rows]:
        """Return rows for the index (INDEX_ROW) and what ties them to rows with other keys (JOIN)."""
        call, cdr_format = self.rules.format.call, self.rules.format
        known = rows["call.start_time"].notna().to_numpy()
        start = rows["call.start_time"].to_numpy().astype("datetime64[s]").astype(np.int64)
        index = np.empty(len(rows), INDEX_ROW)
        index["key"] = self._keys(rows["call.key"])
        index["same"] = 0
        for place, name in enumerate(call.same):
            index["same"][:, place] = _hashed(conditions.column(name), HASH_KEYS[1])
        if not call.same:
            ends = rows["call.agents"], numbers_only(rows["call.customer"])
            may_be_shared = ~rows["call.key"].str.contains(UNIQUE_ID, regex=True)
            some = np.flatnonzero((ends[0] != "") & (ends[1] != "") & may_be_shared)
            hashes = [_hashes(texts.iloc[some].to_numpy(dtype=object), hash_key=HASH_KEYS[1]) for texts in ends]
            index["same"][some] = np.stack(hashes, axis=1)
        index["start"] = np.where(known, start, NO_START)
        if call.row or call.legs:
            content = [rows[name] for name in call.row or cdr_format.used_columns() if name in rows]
        else:
            agents = rows["call.agents"].str.replace(PLUS, r"\1", regex=True)
            content = [numbers_only(rows["call.customer"]), agents]
            content += [rows[name] for name in (call.zohouser, call.voiceuri) if name]
            content += [rows["call.rank"].astype("str"), rows["call.start_time"].astype("str")]
        # The content of rows that count whatever else they hold is not compared, except where they are shown
        # attended: these go first.
        is_compared = (~rows["call.rank"].isin(DECIDED) | rows["call.attended_since"]).to_numpy()
        contents = joined([column[is_compared] for column in content]).to_numpy(dtype=object)
        index["content"] = np.iinfo(np.uint64).max
        index["content"][is_compared] = _hashes(contents, hash_key=HASH_KEYS[0])
        index["place"] = self._file_number * LINES_PER_FILE + rows["call.line"].to_numpy(dtype=np.int64)
        index["agent"] = numbered(self._agents, rows["call.agents"])
        for name in ("slot", "rank", "secondary", "held"):
            index[name] = rows[f"call.{name}"].to_numpy()
        index["legs"] = call.legs
        joins = [np.empty(0, JOIN)]
        for name in call.joins:
            value = _hashed(conditions.column(name), HASH_KEYS[0])
            tied = (value != 0) & known
            joins.append(np.empty(np.count_nonzero(tied), JOIN))
            joins[-1]["value"], joins[-1]["key"], joins[-1]["start"] = value[tied], index["key"][tied], start[tied]
        return index, np.concatenate(joins)

    def _keys(self, texts: pd.Series) -> Keys:
        """Return the keys of the index for those of calls, also where an id has lost the zeros at its end."""
        texts = plain_keys(texts)
        keys, cut = texts.to_numpy(dtype=object), self.rules.format.call.cut_id
        if cut is not None:
            ends_in_zero = texts.str.endswith("0").to_numpy()
            whole = texts[ends_in_zero]
            bare = whole.str.replace(f"^{zeros_behind(cut, 'i')}$", r"\1", regex=True)
            self.evidence.keeps_zeros |= bool((bare != whole).any())
            keys[ends_in_zero] = bare
        halves = np.stack([_hashes(keys, hash_key=key) for key in HASH_KEYS], axis=1)
        return halves.astype(">u8").view("S16").ravel()  # which sort as their numbers do

    def _misshapen(self, damaged: pd.DataFrame, shortest_id: int) -> Rows:
        """Return rows for the index of the calls that records of another shape or with cut ids may be of.

        Such a record may be the row that was attended, or the earliest. In a format without legs it is no call's.
        """
        if not len(damaged) or not self.rules.format.call.legs:
            return np.empty(0, INDEX_ROW)
        rows = damaged.reset_index(drop=True)
        derived = self.rules.format.id_columns() & self.rules.format.derived.keys()
        rows = conditions_on(rows, self.rules).with_texts(derived)
        keys = call_keys(rows, self.rules.format)[1].drop_duplicates()
        keys = keys[keys.str.match(f"i.{{{shortest_id},}}")]
        index = np.zeros(len(keys), INDEX_ROW)
        index["key"], index["rank"], index["legs"] = self._keys(keys), Rank.MISSHAPEN, True
        lines = rows["call.line"][keys.index].to_numpy(dtype=np.int64)
        index["start"], index["place"] = NO_START, self._file_number * LINES_PER_FILE + lines
        index["slot"] = len(self._index) + np.arange(len(keys))
        return index

    def _spooled(self, rows: pd.DataFrame, chunk: Chunk, kept_out: Flags) -> pa.Table:
        """Return the rows that the results may list, and those ``kept_out``, in the order of the file.

        Without those that are skipped they list calls, contradictions and rows of no use.
        """
        if not self.rules.plan.all_rows:
            self.evidence.skipped.update(chunk.frame["call.direction"][kept_out].tolist())
            rank = rows["call.rank"]
            matters = rank.between(*STATE_RANKS) | rank.isin([Rank.PROBLEM, Rank.UNDIRECTED])
            rows = rows.loc[matters | rows["call.attended_since"] | (rows["call.slot"] < 0)]
        call, since, in_no_group = self.rules.format.call, self.rules.plan.since, rows["call.slot"] < 0
        keyless = in_no_group & (rows["call.problem"] == "")
        # What stands in no group is rejected; the others get their window when their calls are decided.
        early = in_no_group & (since is not None and rows["call.start_time"] < pd.Timestamp(since, unit="s"))
        reason = rows["call.problem"].mask(keyless, "no_call_id")
        columns = {
            "line": rows["call.line"],
            "slot": rows["call.slot"],
            "rank": rows["call.outcome_rank"],
            "skip": np.where(early, "outside_window", ""),
            "reason": reason.mask(rows["call.attended_since"], ATTENDED_SINCE),
            "hint": rows["call.hint"].mask(keyless, keyless_hint(self.rules) if keyless.any() else ""),
            **{name: rows[f"call.{name}"] for name in ("source_id", "key", "customer", "agents")},
            **{name: rows[column] for name in ("zohouser", "voiceuri") if (column := getattr(call, name))},
        }
        if in_no_group.any():
            bare = rows.loc[in_no_group, [name for name in self.rules.format.used_columns() if name in rows]]
            columns["content"] = joined([bare[name] for name in bare]).reindex(rows.index, fill_value="")
        parts = [self._table(len(rows), columns)]
        if chunk.bad:
            names = ("line", "reason", "hint", "content")
            bad = {name: [getattr(row, name) for row in chunk.bad] for name in names}
            parts.append(self._table(len(chunk.bad), {"rank": int(Rank.PROBLEM), **bad}))
        if self.rules.plan.all_rows and kept_out.any():
            others = chunk.frame.loc[kept_out]
            columns = {"line": others["call.line"], "skip": others["call.direction"]}
            columns["source_id"], _ = call_keys(others, self.rules.format)
            parts.append(self._table(len(others), {"rank": int(Rank.IGNORE), **columns}))
        table = pa.concat_tables(parts)
        return table if len(parts) == 1 else table.take(np.argsort(table["line"].to_numpy(), kind="stable"))

    def _table(self, size: int, columns: Mapping[str, object]) -> pa.Table:
        """Return rows to be spooled: a single value stands in all of them, "" where there is no column."""
        own = {**dict.fromkeys(SPOOLED_COLUMNS, ""), "file": self._file_number, "slot": -1, **columns}
        return pa.table(
            {
                name: pa.repeat(pa.scalar(own[name], kind), size)
                if isinstance(own[name], int | str)
                else pa.array(own[name], kind)
                for name, kind in SPOOLED_COLUMNS.items()
            }
        )


def _hashed(column: Coded, key: str) -> npt.NDArray[np.uint64]:
    """Return 64 bits for each cell, 0 for an empty one."""
    hashes = _hashes(column.values.to_numpy(dtype=object), hash_key=key)
    return np.asarray(np.where(column.values == "", np.uint64(0), hashes)[column.codes], dtype=np.uint64)
