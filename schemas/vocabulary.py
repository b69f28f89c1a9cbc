"""The closed sets of words of this program; values are the words on disk and on the wire.

Standard library only, so that the ledger and the client can use the words without loading pandas.
"""

from enum import StrEnum


class State(StrEnum):
    """Why the customer did not attend: the six words of the API for an unattended outgoing call.

    Source: https://www.zoho.com/phonebridge/developer/v3/outgoing-unattended.html
    """

    BUSY = "busy"
    INVALID = "invalid"
    BLOCKED = "blocked"
    NOTAVAILABLE = "notavailable"
    NOANSWER = "noanswer"
    REJECTED = "rejected"


class Verdict(StrEnum):
    """The evidence of one row about its call: one of the six states, or why it is none about the customer."""

    ATTENDED = "attended"
    BUSY = "busy"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    INVALID = "invalid"
    NOTAVAILABLE = "notavailable"
    NOANSWER = "noanswer"
    CANCELLED = "cancelled"
    VOICEMAIL = "voicemail"
    OUR_SIDE = "our_side"
    IGNORE = "ignore"


class Direction(StrEnum):
    """Where a row's call went, seen from the agent.

    ``agent_leg`` is a row of an outgoing call that describes our own telephone only: it names the agent, and is no
    evidence about the customer. ``other_leg`` is a detail of a call that has a complete row of its own.
    ``other_kind`` is no call of an agent to anybody: a fax, a message, a bot, a conference dialling in.
    """

    OUTGOING = "outgoing"
    INCOMING = "incoming"
    INTERNAL = "internal"
    AGENT_LEG = "agent_leg"
    OTHER_LEG = "other_leg"
    OTHER_KIND = "other_kind"


class Role(StrEnum):
    """What stands behind a name at one end of a call: one of our telephones, or a line to the outside.

    ``contradicted`` names are proved to be both in one file, ``unproved`` ones to be neither.
    """

    TELEPHONE = "telephone"
    TRUNK = "trunk"
    CONTRADICTED = "contradicted"
    UNPROVED = "unproved"


PASSED_OVER = (Direction.INCOMING, Direction.INTERNAL, Direction.OTHER_LEG, Direction.OTHER_KIND)
"""Directions whose rows are skipped, with the direction as the reason."""


class Outcome(StrEnum):
    """The one fate of a row read."""

    ACCEPTED = "accepted"
    ALREADY_ACCEPTED = "already_accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    PENDING = "pending"
    CONFLICT = "conflict"
    SKIPPED = "skipped"
    WOULD_SEND = "would_send"


class CallState(StrEnum):
    """Where a call stands in the ledger."""

    PENDING = "pending"
    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    CLOSED = "closed"


ATTENDED = "attended"
"""Reason of a row that is skipped because its call was attended, and of a call that is not sent because of it."""

ATTENDED_SINCE = "attended_since"
"""Reason of a row that shows a call attended which was, or was about to be, notified as not attended."""

OTHER_CONTENT = "same_id_other_content"
"""Reason of a call whose id another row, or the ledger, has with other content."""

UNFINISHED_ROW = "unfinished_row"
"""The reason of a last row that the end of its file cuts off; the next import of the whole file takes it."""

SEEN_BEFORE = "seen_before"
"""In the column ``code`` of a rejected row: an earlier run of its site on this ledger has listed it."""

RESULT_COLUMNS = (
    *("file", "line", "call_id", "outcome", "state", "from", "to", "start_time", "zohouser", "source_id"),
    *("reason", "hint", "http_status", "code", "attempts", "sent_at"),
)
"""Header of the results file, in this order."""

REASON_COLUMNS = ("rejects_line", "file", "line", "reason", "hint")
"""Header of the file beside that of rejects: where each row stands in both files, and what is wrong with it."""

E164 = r"^\+[1-9][0-9]{6,14}$"
"""E.164: plus, country code not starting with 0, at most 15 digits; no number in use has fewer than seven."""

WIRE_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
"""``start_time`` on the wire and in the results file, always GMT."""

LONGEST_CALL_SECONDS = 24 * 3600
"""Rows of one call start nearer to each other: systems that number calls anew use ids again, and so do cut ids."""


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its words, ``1 call`` or ``2,000 calls``; ``many`` where an ``s`` makes no plural."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def lasting(seconds: float) -> str:
    """Return how long something takes, rounded up to minutes: ``about 5 minutes``, ``about 2 d 3 h 04 min``."""
    minutes = -int(-seconds // 60)
    if minutes < 60:
        return "up to a minute" if seconds <= 60 else f"about {minutes} minutes"
    days = f"{minutes // 1440} d " if minutes >= 1440 else ""
    return f"about {days}{minutes // 60 % 24} h {minutes % 60:02} min"
