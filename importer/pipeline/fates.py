"""What the ledger knows of a call, as a row of the results."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from importer.ledger import KnownFate, Ledger
from importer.records import OUTCOME_OF_STATE, Call, Place, ResultRow
from schemas.vocabulary import Outcome


def row_of(call: Call, outcome: Outcome, known: KnownFate) -> ResultRow:
    """Return the row of a call with what the ledger knows of it."""
    return ResultRow(
        place=call.place,
        outcome=outcome,
        call_id=call.call_id,
        state=call.state.value,
        agent_number=call.agent_number,
        customer_number=call.customer_number,
        start_time=call.start_time,
        zohouser=call.zohouser,
        source_id=call.source_id,
        **fate_fields(known),
    )


def fate_row(call_id: str, outcome: Outcome, known: KnownFate) -> ResultRow:
    """Return the row of a call of which only the fate is known."""
    return ResultRow(Place("", 0), outcome, call_id=call_id, **fate_fields(known))


def fate_fields(known: KnownFate) -> dict[str, Any]:
    """Return what the ledger knows of a call as fields of a result row."""
    return {each.name: getattr(known, each.name) for each in fields(KnownFate)}


def fates_of(ledger: Ledger, call_ids: Sequence[str]) -> dict[str, ResultRow]:
    """Return the fates of calls as result rows."""
    return {
        call_id: fate_row(call_id, OUTCOME_OF_STATE[fate.state], fate)
        for call_id, fate in ledger.fates(call_ids).items()
    }
