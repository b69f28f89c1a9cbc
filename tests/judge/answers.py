"""What an answer proves, read from its bytes; knows nothing of the importer's own reading of answers."""

import json
import re
from collections.abc import Mapping
from enum import Enum

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?")
NOT_APPLIED_STATUSES = frozenset(
    {307, 308, 401, 402, 403, 404, 405, 406, 407, 408, 410, 411, 415, 417, 421, 425, 426, 429, 431, 501, 505}
)
HEAD_SAYS_ALL = frozenset({401, 407, 429})
NOT_APPLIED_CODES = frozenset(
    {
        "INVALID_TOKEN",
        "INVALID_OAUTHTOKEN",
        "AUTHENTICATION_FAILURE",
        "OAUTH_SCOPE_MISMATCH",
        "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED",
        "TOO_MANY_REQUESTS",
        "request_limit_exceeded",
        "PBX_NOT_INTEGRATED",
        "PROVIDER_NOT_REGISTERED",
        "DIFFERENT_PROVIDER_ALREADY_ENABLED",
        "NO_PERMISSION",
    }
)
REFUSING_CODES = frozenset({"REQUIRED_PARAM_MISSING", "INVALID_USER"})


class Meaning(Enum):
    """What a complete, understood answer proves of the call; ``NOTHING`` where there is none such."""

    TAKEN = "taken"
    REFUSED = "refused"
    NOT_APPLIED = "not applied"
    NOTHING = "nothing"


def meaning_of(sent: bytes) -> Meaning:
    """Judge the bytes of an answer; an interim answer, or one cut short, proves nothing."""
    head, end, rest = sent.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    found = STATUS_LINE.fullmatch(first)
    if not end or not found:
        return Meaning.NOTHING
    status, headers = int(found[1]), _headers(lines)
    length = headers.get("content-length", "")
    if not length.isdecimal() or len(rest) < int(length):
        return Meaning.NOT_APPLIED if status in HEAD_SAYS_ALL else Meaning.NOTHING
    return _by_words(status, headers, _object(rest[: int(length)]))


def _headers(lines: list[bytes]) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return {name.lower(): value.strip() for name, _, value in pairs}


def _object(body: bytes) -> Mapping[str, object]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _by_words(status: int, headers: Mapping[str, str], body: Mapping[str, object]) -> Meaning:
    error = body.get("error")
    code = str(body.get("code") or (error.get("title") if isinstance(error, dict) else "") or "")
    if "success" in (str(body.get("status")).lower(), code.lower()):
        strict = (status, body.get("status"), code) == (200, "success", "SUCCESS") and not error
        return Meaning.TAKEN if strict else Meaning.NOTHING
    if code in NOT_APPLIED_CODES or (status, code) == (403, "INTERNAL_ERROR"):
        return Meaning.NOT_APPLIED
    if code in REFUSING_CODES:
        return Meaning.REFUSED
    if code == "INTERNAL_ERROR":
        return Meaning.NOTHING
    return _by_status(status, headers)


def _by_status(status: int, headers: Mapping[str, str]) -> Meaning:
    if status in NOT_APPLIED_STATUSES or (status == 503 and "retry-after" in headers):
        return Meaning.NOT_APPLIED
    return Meaning.REFUSED if 400 <= status < 500 and status != 409 else Meaning.NOTHING
