"""Spooled rows, now that every call is decided, to calls ready to be staged and lines of the results."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from importer.prepare.agents import Agent
from importer.prepare.groups import LINES_PER_FILE, NO_START, SKIPPED_FOR, Decision, Rank, Rows
from importer.prepare.hints import call_hint
from importer.prepare.keys import MOST_LOST_ZEROS, UUID, call_id_of, grouped_keys, other_keys, zeros_behind
from importer.prepare.plan import PreparePlan, Rules
from importer.prepare.rows import STATE_OF
from importer.reading.conditions import joined
from importer.records import Call, Place, ResultRow
from schemas import data
from schemas.call import call_schema, judged, numbers_only
from schemas.times import wire_text
from schemas.vocabulary import ATTENDED_SINCE, OTHER_CONTENT, WIRE_TIME_FORMAT, Outcome, State

FUTURE_SECONDS = 300
"""So far may the telephone system's clock be ahead of ours."""

SPELT_AT_ONCE = 1_000
"""Of so many unknown calls the other ids are in memory at once: hundreds of each."""

Prepared = Call | ResultRow


class _Row(NamedTuple):
    """One spooled row that is no call, with its decision."""

    file: int
    line: int
    decision: int
    decided_by: int
    start: int
    skip: str
    reason: str
    hint: str
    state: str
    source_id: str
    key: str
    customer: str
    agent_number: str
    content: str


_CONTENT = ("content", "source_id", "key", "state", "customer", "agents", "zohouser", "voiceuri", "hint")
_STATE_BY_WORD = {state.value: state for state in State}
_STATES = [STATE_OF[rank].value if rank in STATE_OF else "" for rank in Rank]


class CallMaker:
    """Makes a call or a result row of every spooled row, frame by frame in input order."""

    def __init__(
        self, files: Sequence[Rules], agent_names: Sequence[str], plan: PreparePlan, keys: pd.DataFrame
    ) -> None:
        self._files = files
        self._agent_names = agent_names
        self._plan = plan
        self._keys = keys
        self._schema = call_schema(latest=np.datetime64(plan.now + FUTURE_SECONDS, "s"))
        self._agents: dict[tuple[int, int, str], Agent] = {}
        self._id_schemes = [rules.id_scheme() for rules in files]

    def make(self, spooled: pd.DataFrame, resolved: Rows) -> list[Prepared]:
        """Return one call or result row for each row of a spooled frame, in its order.

        ``resolved`` (RESOLVED) says what became of those that are in the index.
        """
        rows = self._with_decisions(spooled, resolved)
        rows = self._with_calls(rows)
        plain = ((rows["decision"] == Decision.CALL) & (rows["skip"] == "") & (rows["reason"] == "")).to_numpy()
        made: npt.NDArray[np.object_] = np.empty(len(rows), dtype=object)
        calls = rows.loc[plain]  # column by column, in half the time of row by row
        texts = ("agent_number", "customer", "start_text", "zohouser", "voiceuri", "source_id")
        made[plain] = [
            *map(
                Call,
                calls["call_id"].tolist(),
                map(_STATE_BY_WORD.__getitem__, calls["state"].tolist()),
                *(calls[name].tolist() for name in texts),
                map(Place, [self._files[file].name for file in calls["file"].tolist()], calls["line"].tolist()),
                map(self._id_schemes.__getitem__, calls["file"].tolist()),
            )
        ]
        others = rows.loc[~plain]
        content = joined([*(others[name] for name in _CONTENT), others["start"].astype("str")])
        others = others.assign(customer=numbers_only(others["customer"]), content=content)
        made[~plain] = [self._finished(_Row._make(row)) for row in _cells(others, *_Row._fields)]
        prepared: list[Prepared] = made.tolist()
        return prepared

    def _with_decisions(self, rows: pd.DataFrame, resolved: Rows) -> pd.DataFrame:
        """Add ``decision`` (-1 where the row was decided by itself), ``start``, ``decided_by`` and ``leg_agent``.

        Where the call takes its id and key from another of its rows, ``source_id`` and ``key`` become those. Calls
        outside the window or in a state that is not wanted get the reason why they are skipped (``skip``).
        """
        grouped = (rows["slot"] >= 0).to_numpy()
        for name, nothing in (("decision", -1), ("start", 0), ("decided_by", 0), ("leg_agent", -1)):
            values = np.full(len(rows), nothing, dtype=np.int64)
            values[grouped] = resolved[name]
            rows[name] = values
        named_by = resolved["named_by"]
        named = rows.index[grouped][named_by >= 0]
        if len(named):
            keys = self._keys.loc[pd.Index(named_by[named_by >= 0])]
            rows.loc[named, ["source_id", "key"]] = keys.set_axis(named)
        # That its call was attended after all, or came in.
        shows = rows["decision"].isin([Decision.ATTENDED, Decision.INCOMING]).to_numpy(copy=True)
        shows[grouped] |= resolved["is_attended"]
        rows.loc[(rows["reason"] == ATTENDED_SINCE) & ~shows, "reason"] = ""
        rows["state"] = pd.array(_STATES, dtype="str").take(rows["rank"].to_numpy())
        own = rows["rank"] == Rank.OUR_SIDE_COUNTED
        rows.loc[own, "state"] = [self._files[file].policies.our_side for file in rows.loc[own, "file"].tolist()]
        chosen = rows["decision"].isin([Decision.CALL, Decision.DUPLICATE, Decision.CONFLICT])
        rows.loc[chosen & ~rows["state"].isin([*self._plan.states]), "skip"] = "state_not_wanted"
        since, until = self._plan.since, self._plan.until
        if since is not None:
            unusable = rows["decision"].isin([Decision.PROBLEM, Decision.UNCLEAR_CALL, Decision.SHARED_ID])
            rows.loc[(chosen | unusable) & (rows["start"] < since), "skip"] = "outside_window"
        if until is not None:
            rows.loc[chosen & (rows["start"] >= until), "skip"] = "outside_window"
        return rows

    def _with_calls(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Add number, user, id and start of the calls; of those that cannot be used, set reason and hint."""
        calls = rows.loc[(rows["decision"] == Decision.CALL) & (rows["skip"] == "")]
        if not len(calls):
            return rows.assign(agent_number="", call_id="", start_text="")
        named = [*_cells(calls, "file", "leg_agent", "agents")]
        for file, leg_agent, own in {*named} - self._agents.keys():
            rules = self._files[file]
            texts = f"{self._agent_names[leg_agent]}\x1f{own}" if leg_agent >= 0 else own
            candidates = tuple(name for name in texts.split("\x1f") if name)
            agent = self._plan.agents.find(candidates, rules.plain_numbers, rules.extensions)
            self._agents[file, leg_agent, own] = agent
        agents = [self._agents[key] for key in named]
        made = pd.DataFrame(
            {
                "state": calls["state"],
                "customer_number": calls["customer"],
                "start_time": calls["start"],
                "agent_number": [agent.number for agent in agents],
                "zohouser": calls["zohouser"].where(calls["zohouser"] != "", [agent.zohouser for agent in agents]),
                "voiceuri": calls["voiceuri"],
                "call_id": self._call_ids(calls),
            },
            index=calls.index,
        )
        # What stands in place of a number is the fault: through pandera it took more time than all the others.
        has_number = made["customer_number"].str.startswith("+")
        sound, faults = judged(made[has_number], self._schema)
        faults = pd.concat([faults, made.loc[~has_number, "customer_number"]])
        made["start_text"] = wire_text(sound["start_time"]).reindex(made.index, fill_value="")
        for name in ("agent_number", "zohouser", "call_id", "start_text"):
            rows[name] = made[name].reindex(rows.index, fill_value="")
        if len(faults):
            cells = _cells(rows.loc[faults.index], "file", "agents", "start_text", "voiceuri", "zohouser", "hint")
            rows.loc[faults.index, "hint"] = [
                call_hint(reason, texts, self._files[file])
                for reason, (file, *texts) in zip(faults.tolist(), cells, strict=True)
            ]
            rows.loc[faults.index, "reason"] = faults
        return rows

    def _call_ids(self, calls: pd.DataFrame) -> list[str]:
        """Return the ids of calls; where a program may have changed the export's own, those that the ledger has.

        Programs write 1772460847.5 for 1772460847.50 (`zeros_behind`), other parts of keys in several ways
        (`other_keys`), and ids with parted thousands (`grouped_keys`).
        """
        site, held = self._plan.site, self._plan.held
        call_ids = [call_id_of(site, *each) for each in _cells(calls, "source_id", "key")]
        if held is None:
            return call_ids
        had_groups = any(each.had_groups for each in self._files)
        # The key, how many zeros its id may have lost, and the customer.
        written: dict[str, tuple[str, Iterable[int], str]] = {}
        cells = _cells(calls, "file", "source_id", "key", "customer")
        for call_id, (file, text, key, customer) in zip(call_ids, cells, strict=True):
            call, keeps_zeros = self._files[file].format.call, self._files[file].keeps_zeros
            cut, is_joined = call.cut_id, any(len(names) > 1 for names in call.id)
            found = re.fullmatch(zeros_behind(cut), text) if cut else None
            if found and (found[2] or not keeps_zeros):
                lost = [0] if found[2] else range(1, MOST_LOST_ZEROS + 1)
                written[call_id] = f"i{found[1]}", lost, customer
            elif key[:1] == "u" or is_joined or had_groups or re.search(UUID, key):
                written[call_id] = key, (), customer
        unknown, spelt = [*(written.keys() - held([*written]).keys())], dict[str, str]()
        for start in range(0, len(unknown), SPELT_AT_ONCE):
            others: dict[str, list[str]] = {}
            for call_id in unknown[start : start + SPELT_AT_ONCE]:
                key, zeros, customer = written[call_id]
                keys = [key + "0" * count for count in zeros] or other_keys(key, customer)
                keys += grouped_keys([key, *keys]) if had_groups else []
                others[call_id] = [call_id_of(site, each[1:] if zeros else "", each) for each in keys]
            known = held([*chain(*others.values())])
            spelt |= {mine: each for mine, them in others.items() for each in reversed(them) if each in known}
        return [spelt.get(call_id, call_id) for call_id in call_ids]

    def _finished(self, row: _Row) -> ResultRow:
        """Return the line of the results of a row that is no call."""
        place = Place(self._files[row.file].name, row.line)
        of_row = partial(ResultRow, place, state=row.state, source_id=row.source_id)
        if row.skip:
            return of_row(Outcome.SKIPPED, reason=row.skip)
        other = Place(self._files[row.decided_by // LINES_PER_FILE].name, row.decided_by % LINES_PER_FILE)
        decided = row.decision == Decision.OTHER_LEG or other == place
        if row.reason == ATTENDED_SINCE and decided:  # the ledger holds it otherwise; staging has the last word
            known = row.start != NO_START
            return of_row(
                Outcome.CONFLICT,
                state="",
                call_id=call_id_of(self._plan.site, row.source_id, row.key),
                customer_number=row.customer,
                start_time=f"{datetime.fromtimestamp(row.start, UTC):{WIRE_TIME_FORMAT}}" if known else "",
                reason=ATTENDED_SINCE,
            )
        if row.decision in SKIPPED_FOR:
            return of_row(Outcome.SKIPPED, reason=SKIPPED_FOR[Decision(row.decision)])
        of_row = partial(of_row, customer_number=row.customer, content=row.content)
        if row.decision in _BESIDE:
            outcome, reason = _BESIDE[Decision(row.decision)]
            is_first = row.decision == Decision.CONFLICT and other == place
            text = data("hints")["calls"]["same_id_in_input" if is_first else reason]
            call_id = call_id_of(self._plan.site, row.source_id, row.key)
            hint = text.format(file=other.file, line=other.line)
            return of_row(outcome, call_id=call_id, reason=reason, hint=hint)
        if row.reason:
            return of_row(Outcome.REJECTED, agent_number=row.agent_number, reason=row.reason, hint=row.hint)
        raise AssertionError(f"{place.file}, line {place.line}: a call without fault was taken for something else")


_BESIDE = {
    Decision.DUPLICATE: (Outcome.DUPLICATE, "same_row"),
    Decision.CONFLICT: (Outcome.CONFLICT, OTHER_CONTENT),
    Decision.UNCLEAR_CALL: (Outcome.REJECTED, "unclear_call"),
    Decision.SHARED_ID: (Outcome.REJECTED, "shared_id"),
}


def _cells(rows: pd.DataFrame, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].tolist() for name in names), strict=True)  # iterating Arrow text is slow
