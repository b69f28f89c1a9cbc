"""What each column of an unknown export may be for, by the words of its header and the look of its cells."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from importer.formats.detection import column_key
from importer.formats.drafting.export import Column, Export, Kind
from importer.formats.language import word_key

_NUMBERS = frozenset({Kind.TELEPHONE, Kind.WHOLE})
_PERSONS = frozenset({Kind.TELEPHONE, Kind.WHOLE, Kind.WORD, Kind.TEXT, Kind.ID})
_SECONDS = frozenset({Kind.DURATION, Kind.WHOLE})
_STATUSES = frozenset({Kind.WORD, Kind.WHOLE})
_IDS = frozenset({Kind.ID, Kind.WHOLE, Kind.TELEPHONE, Kind.TEXT, Kind.WORD})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OUTGOING = _words("outbound outgoing out dialed dialled placed outboundcall outgoingcall outboundapi outbounddial")
INCOMING = _words("inbound incoming in received missed inboundcall incomingcall")
INTERNAL = _words("internal local intercom internalcall")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A role: words of a header that tell it, the surest first, and the kinds that may fill it."""

    role: str
    words: str
    kinds: frozenset[Kind]
    not_with: str = ""


_WANTED = (
    _Wanted("answer_time", "answertime answeredat answeredtime connecttime answer pickup", frozenset({Kind.TIME})),
    _Wanted(
        "start",
        "starttime startdate callstart startstamp started start calldate calltime datetime begin initiated "
        "timestamp created date time",
        frozenset({Kind.TIME}),
        not_with="answer end hangup disconnect stop finish updated connect",
    ),
    _Wanted("direction", "calldirection direction calltype dir inout type", frozenset({Kind.WORD})),
    _Wanted(
        "status",
        "disposition hangupcause callstatus callresult status result outcome terminationreason cause reason "
        "termination state",
        _STATUSES,
    ),
    _Wanted("ring_seconds", "ringseconds ringtime ringduration ringing rung ring waiting wait", _SECONDS),
    _Wanted(
        "talk_seconds", "talkseconds talktime talkduration talking talk billsec billable conversation", _SECONDS
    ),
    _Wanted("voiceuri", "recordingurl recording voice url record", frozenset({Kind.URL})),
    _Wanted("id", "uniqueid callid callsid calluuid uuid guid sid recordid sessionid linkedid id reference", _IDS),
    _Wanted(
        "customer",
        "customernumber customerphone dialednumber dialednum dialled dialed callednumber calledparty called "
        "callee destinationnumber destination dst tonumber to recipient customer phonenumber",
        _NUMBERS,
        not_with="name",
    ),
    _Wanted(
        "agent",
        "agentextension agentnumber extension agentemail agent username user callingnumber callingparty "
        "fromnumber from src source caller owner operator employee staff who ext",
        _PERSONS,
        not_with="agentid userid",
    ),
)


@dataclass(frozen=True, slots=True)
class Role:
    """The column taken for a role, None when none was found; ``others`` would do as well.

    ``clock`` is the column with the time of day where ``column`` has only the date.
    """

    role: str
    column: Column | None
    others: tuple[Column, ...] = ()
    clock: Column | None = None


def roles_of(export: Export, known_words: frozenset[str]) -> dict[str, Role]:
    """Return what fills each role; no column fills two.

    Where no header speaks of it only what the cells themselves show is taken: in a file without header the first
    column of times, words that are directions, and words of which most are ``known_words`` (see `word_key`).
    """
    found: dict[str, Role] = {}
    left = list(export.columns)
    for wanted in _WANTED:
        candidates = _by_header(left, wanted) or _by_cells(left, wanted.role, known_words, export)
        found[wanted.role] = Role(wanted.role, next(iter(candidates), None), tuple(candidates[1:]))
        left = [column for column in left if column not in candidates[:1]]
    if found["start"].column is None:
        found["start"] = _date_and_clock(left)
    return found


def _date_and_clock(columns: Sequence[Column]) -> Role:
    """Return the first column of dates and the first behind or before it whose header and cells are of a clock."""
    dates = [column for column in columns if column.kind is Kind.DATE]
    clocks = [column for column in columns if column.time_formats and column.kind is Kind.DURATION]
    named = [column for column in clocks if re.search(r"time|clock|hour|start", column_key(column.header))]
    if not dates or not named:
        return Role("start", None)
    return Role("start", dates[0], (*dates[1:], *named[1:]), named[0])


def _by_header(columns: Sequence[Column], wanted: _Wanted) -> list[Column]:
    """Return the columns whose headers speak of the role, those those that say nothing else if there are any."""
    fitting = [
        column for column in columns if column.kind in wanted.kinds and not _speaks_of(column, wanted.not_with)
    ]
    words = wanted.words.split()
    exact = [column for word in words for column in fitting if column_key(column.header) == word]
    if exact:
        return exact
    part = [column for word in words for column in fitting if len(word) > 3 and word in column_key(column.header)]
    return list(dict.fromkeys(part))


def _speaks_of(column: Column, words: str) -> bool:
    return any(word in column_key(column.header) for word in words.split())


def _by_cells(columns: Sequence[Column], role: str, known_words: frozenset[str], export: Export) -> list[Column]:
    if role == "start" and not export.header_line:
        return [column for column in columns if column.kind is Kind.TIME]
    if role == "direction":
        known = OUTGOING | INCOMING | INTERNAL
        return [column for column in columns if column.words and _share(column, known) == 1]
    if role == "status":
        # One or two letters are codes of some system or another, and one word for all rows says nothing.
        likely_words = frozenset(word for word in known_words if len(word) > 2)
        telling = [column for column in columns if column.kind is Kind.WORD and column.distinct > 1]
        scored = [(_share(column, likely_words), column) for column in telling]
        likely = [pair for pair in scored if pair[0] >= 0.5]
        return [column for _, column in sorted(likely, key=lambda pair: -pair[0])]
    return []


def _share(column: Column, known: frozenset[str]) -> float:
    """Return which share of the rows has a word that is known."""
    return sum(count for word, count in column.words if word_key(word) in known) / max(column.filled, 1)
