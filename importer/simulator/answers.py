"""The answers themselves: status, headers and body of every row of `reference/zoho-api.md` section 8."""

import http.client
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

JSON_TYPE = "application/json;charset=UTF-8"
TEXT_TYPE = "text/plain;charset=UTF-8"
HTML_TYPE = "text/html;charset=UTF-8"
SERVER_NAME = "cdr-importer-sandbox"
WITHOUT_BODY = (204, 304)

ThrottleProfile = Literal["A", "B", "C"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; ``headers`` replace default ones of the same name, ``code`` is the body's own word."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    code: str = ""


def json_answer(status: int, content: object, *headers: tuple[str, str]) -> Answer:
    """Return an answer whose body is ``content`` as JSON."""
    return Answer(status, json.dumps(content).encode(), headers, code_in(content))


def text_answer(text: str) -> Answer:
    """Return a plain-text answer for people."""
    return Answer(200, text.encode(), (("Content-Type", TEXT_TYPE),))


def envelope(status: int, code: str, message: str, *, param: str = "") -> Answer:
    """Return an error in the envelope seen on PhoneBridge (zoho-api.md 1.6)."""
    details = {"param": param} if param else {}
    return json_answer(status, {"code": code, "details": details, "message": message, "status": "error"})


def code_in(content: object) -> str:
    """Return the word a body names its result with: ``code``, ``error`` or ``error.title``; else nothing."""
    if not isinstance(content, Mapping):
        return ""
    word = content.get("code", content.get("error", ""))
    if isinstance(word, Mapping):
        word = word.get("title", "")
    return word if isinstance(word, str) else ""


def code_in_body(body: bytes) -> str:
    """Return the same word of an encoded body; nothing where it is not JSON."""
    try:
        return code_in(json.loads(body))
    except (ValueError, RecursionError):
        return ""


SUCCESS = json_answer(200, {"status": "success", "code": "SUCCESS"})
NO_AUTHORIZATION = envelope(401, "AUTHENTICATION_FAILURE", "Authentication failed")
NO_SCOPE = envelope(401, "OAUTH_SCOPE_MISMATCH", "invalid oauth scope to access this URL")
NO_PROVIDER = envelope(400, "PROVIDER_NOT_REGISTERED", "Provider is not registered")
NO_PERMISSION = envelope(403, "NO_PERMISSION", "Permission denied")
NO_PRIVILEGE = envelope(403, "INTERNAL_ERROR", "Internal Error")
OTHER_PROVIDER = envelope(403, "DIFFERENT_PROVIDER_ALREADY_ENABLED", "Another provider is enabled")
UNKNOWN_USER = envelope(400, "INVALID_USER", "Please check the user configuration")
REPEATED_ID = envelope(400, "DUPLICATE_DATA", "duplicate data", param="id")
INTERNAL_ERROR = envelope(500, "INTERNAL_ERROR", "Internal Error")
NO_SUCH_PATH = envelope(404, "INVALID_URL_PATTERN", "Please check if the URL trying to access is a correct one")


def missing_parameter(name: str, *, terse: bool) -> Answer:
    """Return the refusal of a call without the mandatory parameter ``name``."""
    if terse:
        return json_answer(400, {"status": "error", "code": "REQUIRED_PARAM_MISSING"})
    return envelope(400, "REQUIRED_PARAM_MISSING", "One of the expected parameter is missing", param=name)


def wrong_method(status: int, allowed: str) -> Answer:
    """Return the refusal of a method the path does not know."""
    body = envelope(status, "INVALID_REQUEST_METHOD", "The http request method type is not a valid one")
    return Answer(status, body.body, (("Allow", allowed),), body.code)


def token_error(error: str) -> Answer:
    """Return an error of the token endpoint, which comes with status 200 (zoho-api.md 2.4)."""
    return json_answer(200, {"error": error})


def too_many_tokens(status: int) -> Answer:
    """Return the token endpoint's throttle (zoho-api.md 2.4)."""
    description = "You have made too many requests continuously. Please try again after some time."
    return json_answer(status, {"error_description": description, "error": "Access Denied", "status": "failure"})


def throttle(profile: ThrottleProfile, wait_seconds: int, limit: tuple[int, float]) -> Answer:
    """Return the throttle answer of a Zoho product: A is CRM's, B is that of Projects, C that of Cliq.

    ``limit`` is requests and period in seconds. Only A and B carry ``Retry-After`` (zoho-api.md 3 and 8.1).
    """
    retry_after = ("Retry-After", str(wait_seconds))
    if profile == "A":
        answer = envelope(429, "TOO_MANY_REQUESTS", "Too many requests, please try again later")
        return Answer(429, answer.body, (retry_after,), answer.code)
    if profile == "B":
        return json_answer(400, {"error": _rolling_throttle(wait_seconds, limit)}, retry_after)
    message = "You have exceeded the URL throttle limits."
    return json_answer(400, {"code": "request_limit_exceeded", "message": message})


def _rolling_throttle(wait_seconds: int, limit: tuple[int, float]) -> dict[str, object]:
    requests, period_seconds = limit
    message = (
        f"Cannot execute more than {requests} requests per API in {period_seconds / 60:g} minutes. "
        f"Try again after {math.ceil(wait_seconds / 60)} minutes."
    )
    title = "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED"
    return {"status_code": 400, "title": title, "details": {"message": message}}


def render_head(answer: Answer, *, now: float, close: bool) -> bytes:
    """Return status line and header block; ``now`` is seconds since 1970 for the Date header."""
    headers = {"server": ("Server", SERVER_NAME), "date": ("Date", formatdate(now, usegmt=True))}
    if answer.status not in WITHOUT_BODY:
        headers["content-type"] = ("Content-Type", JSON_TYPE)
        headers["content-length"] = ("Content-Length", str(len(answer.body)))
    if close:
        headers["connection"] = ("Connection", "close")
    replaced = {name.lower() for name, _ in answer.headers}
    kept = [pair for name, pair in headers.items() if name not in replaced]
    lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in (*kept, *answer.headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
