"""What an answer proves, read from its bytes by the table of answers, not by the importer's own reading."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parents[1] / "faults" / "answers.toml"
TABLE: Mapping[str, Any] = tomllib.loads(PLACE.read_text(encoding="utf-8"))
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?")
HEAD_SAYS_ALL = frozenset({401, 407, 429})


class Meaning(Enum):
    """What a complete, understood answer proves of the call; ``NOTHING`` where there is none such."""

    TAKEN = "taken"
    REFUSED = "refused"
    NOT_APPLIED = "not_applied"
    NOTHING = "unknown"


def statuses_in(text: str) -> Iterator[int]:
    """Yield the statuses that a row names: single ones and ranges."""
    for word in text.split():
        first, _, last = word.partition("-")
        yield from range(int(first), int(last or first) + 1)


ROWS = {status: row for row in TABLE["answers"] for status in statuses_in(row["statuses"])}
EXCEPTIONS = {(each["status"], each["code"]): each["verdict"] for each in TABLE["code_exceptions"]}


def meaning_of(sent: bytes) -> Meaning:
    """Judge the bytes of an answer; an interim answer, or one cut short, proves nothing."""
    head, end, rest = sent.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    found = STATUS_LINE.fullmatch(first)
    if not end or not found:
        return Meaning.NOTHING
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    status, headers = int(found[1]), {name.lower(): value.strip() for name, _, value in pairs}
    length = headers.get("content-length", "")
    if not length.isdecimal() or len(rest) < int(length):
        return Meaning.NOT_APPLIED if status in HEAD_SAYS_ALL else Meaning.NOTHING
    try:
        body = json.loads(rest[: int(length)])
    except ValueError:
        body = None
    verdict = _verdict(status, headers, body if isinstance(body, dict) else {})
    return Meaning(TABLE["verdicts"][verdict][0])


def _verdict(status: int, headers: Mapping[str, str], body: Mapping[str, object]) -> str:
    row, error = ROWS[status], body.get("error")
    code = str(body.get("code") or (error.get("title") if isinstance(error, dict) else "") or "")
    if "success" in (str(body.get("status")).lower(), code.lower()):
        is_strict = (body.get("status"), code) == ("success", "SUCCESS") and not error
        return str(row["documented"] if is_strict and "documented" in row else row["claimed"])
    if code in TABLE["codes"]:
        return str(EXCEPTIONS.get((status, code), TABLE["codes"][code]))
    return "wait" if status == 503 and "retry-after" in headers else str(row["plain"])
