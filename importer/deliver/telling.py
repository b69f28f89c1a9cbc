"""Requests and waits as events for a log: what happened to which row, without numbers or the service's texts."""

import re
from pathlib import Path

from importer.client import SendFailure
from importer.events import Event, EventName, Level
from importer.records import Call, Receipt
from schemas.vocabulary import CallState

_NAME_OF = {
    CallState.ACCEPTED: EventName.CALL_ACCEPTED,
    CallState.PENDING: EventName.CALL_PENDING,
    CallState.REFUSED: EventName.CALL_REFUSED,
    CallState.UNCERTAIN: EventName.CALL_UNCERTAIN,
}
# What answers may put anything there, a number too; Zoho's own codes look like this.
_CODE = re.compile(r"[A-Z][A-Z_]{1,60}")


def request_event(call: Call, receipt: Receipt, milliseconds: float, failure: SendFailure | None) -> Event:
    """Return what one request for a call came to; ``failure`` is why no answer came."""
    fields: dict[str, object] = {
        "ref": receipt.call_id,
        "file": Path(call.place.file).name,
        "line": call.place.line,
        "attempt": receipt.attempts,
        "reason": receipt.reason or "-",
        "http": "-" if receipt.http_status is None else receipt.http_status,
        "code": receipt.code if _CODE.fullmatch(receipt.code) else "-",
        "ms": round(milliseconds),
    }
    if failure is not None:
        fields |= {"phase": "after_first_byte" if failure.first_byte else "before_first_byte"}
        fields |= {"class": failure.classes or "-"}
    level = Level.DEBUG if receipt.state is CallState.ACCEPTED else Level.WARN
    return Event(_NAME_OF[receipt.state], level, fields)


def wait_event(seconds: float, reason: str) -> Event:
    """Return that everybody waits because the service asked for it."""
    return Event(EventName.WAIT_BEGAN, Level.INFO, {"seconds": round(seconds, 1), "reason": reason})
