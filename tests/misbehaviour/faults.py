"""What the API and its token endpoint may do to one request that is whole HTTP."""

import http
import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Self

from importer.simulator.service import Response
from misbehaviour.connections import http_head

FOREVER = sys.maxsize
"""``times`` of a fault that never ends."""
HTML = (("Content-Type", "text/html;charset=UTF-8"),)
WITHOUT_BODY = (204, 304)


@dataclass(frozen=True)
class Fault:
    """One scripted deviation for the next ``times`` requests; without any field set, the ordinary answer.

    Answered are ``status``, ``headers`` (in place of default ones of the same name) and ``body``; or these very
    bytes, ``raw_answer``, then the end of the connection; or else the ordinary answer, with ``changes`` of keys in
    its JSON and without those of ``drops``. ``early_hints`` sends a 103 first; ``delay_seconds`` waits, ``held``
    until it is set; ``cut_body_after`` declares the whole length, sends so many bytes of the body and closes.

    Without an answer ``reset_before_reading`` ends the connection when the head was read and the body was not,
    ``close_after_reading`` and ``reset_after_reading`` when the whole request was; ``hang`` keeps it silently.

    ``store`` accepts the call although the answer does not say so, if nothing is wrong with it; what leaves the
    ordinary answer in place always does. ``expire_tokens`` ends every access token before the request is judged.
    """

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    raw_answer: bytes | None = None
    changes: Mapping[str, object] = field(default_factory=dict)
    drops: tuple[str, ...] = ()
    early_hints: bool = False
    delay_seconds: float = 0.0
    held: threading.Event | None = None
    cut_body_after: int | None = None
    reset_before_reading: bool = False
    close_after_reading: bool = False
    reset_after_reading: bool = False
    hang: bool = False
    store: bool = False
    expire_tokens: bool = False
    times: int = 1

    @property
    def is_silent(self) -> bool:
        """Say whether the whole request is read and nothing is ever answered."""
        return self.close_after_reading or self.reset_after_reading or self.hang

    @property
    def takes_call(self) -> bool:
        """Say whether an acceptable call is stored."""
        return self.store or (self.status is None and self.raw_answer is None and not self.is_silent)

    def repeated(self, times: int) -> Self:
        """Return the same fault for ``times`` requests; see `FOREVER`."""
        return replace(self, times=times)

    def rendered(self, answer: Response, now: float) -> tuple[int, bytes]:
        """Return status and bytes of the answer in place of ``answer``; ``now`` is epoch seconds."""
        headers = {"Date": formatdate(now, usegmt=True), "Content-Type": answer.content_type}
        status, body, given = answer.status, answer.body, (*answer.headers.items(), *self.headers)
        if self.status is not None:
            status, body, given = self.status, self.body, self.headers
        elif isinstance(answer.content, dict):
            content = answer.content | dict(self.changes)
            body = json.dumps({key: value for key, value in content.items() if key not in self.drops}).encode()
        if status not in WITHOUT_BODY:
            headers["Content-Length"] = str(len(body))
        replaced = {name.lower() for name, _ in given}
        kept = [(name, value) for name, value in headers.items() if name.lower() not in replaced]
        phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else "Unknown"
        return status, http_head(f"{status} {phrase}", [*kept, *given]) + body[: self.cut_body_after]

    @classmethod
    def json(cls, status: int, content: object, *headers: tuple[str, str], store: bool = False) -> Self:
        """Return the fault that answers with this content."""
        return cls(status=status, headers=headers, body=json.dumps(content).encode(), store=store)

    @classmethod
    def refusal(cls, code: str, status: int = 400, *headers: tuple[str, str], store: bool = False) -> Self:
        """Return the error envelope with any code and status."""
        content = {"code": code, "details": {}, "message": "refused by script", "status": "error"}
        return cls.json(status, content, *headers, store=store)

    @classmethod
    def throttle(cls, wait_seconds: int = 30) -> Self:
        """Return 429 with a wait."""
        return cls.refusal("TOO_MANY_REQUESTS", 429, ("Retry-After", str(wait_seconds)))

    @classmethod
    def expired_token(cls, status: int = 401) -> Self:
        """End every access token as this request comes: it and all others fail until a refresh."""
        return replace(cls.refusal("INVALID_TOKEN", status), expire_tokens=True)

    @classmethod
    def lost_answer(cls) -> Self:
        """Accept the call and close the connection without a word."""
        return cls(close_after_reading=True, store=True)

    @classmethod
    def login_page(cls) -> Self:
        """Return 200 with a sign-in page, as a captive portal or an intermediary does."""
        body = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form></form></body></html>"
        return cls(status=200, headers=HTML, body=body)

    @classmethod
    def cut_answer(cls) -> Self:
        """Accept the call and break off in the middle of the ordinary answer's body."""
        return cls(cut_body_after=10)


ORDINARY = Fault()
"""No deviation; fills the places before a fault: ``script(ORDINARY.repeated(9), Fault.lost_answer())``."""

USUAL = (
    Fault(reset_after_reading=True),
    Fault(reset_before_reading=True),
    Fault.lost_answer(),
    Fault.cut_answer(),
    Fault.refusal("INTERNAL_ERROR", 500, store=True),
    Fault(status=502, headers=HTML, body=b"<html>502 Bad Gateway</html>"),
    Fault.refusal("INVALID_DATA"),
    Fault.throttle(wait_seconds=0),
    Fault(status=408),
    Fault(status=409),
    Fault(drops=("code",)),
)
"""What a service does now and then: answers that are lost, refusals of one call, and asking to wait."""
