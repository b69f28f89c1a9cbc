"""What a simulator can be told, and what it tells: switches, scripted faults, arrivals."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, Self

from importer.simulator.answers import (
    HTML_TYPE,
    INTERNAL_ERROR,
    Answer,
    ThrottleProfile,
    envelope,
    throttle,
)

FOREVER = sys.maxsize
"""``times`` of a fault that never ends."""

EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


@dataclass(frozen=True, slots=True)
class SandboxCredentials:
    """What the token endpoint wants to see."""

    client_id: str
    client_secret: str
    refresh_token: str


SANDBOX_CREDENTIALS = SandboxCredentials(
    "1000.SANDBOXCLIENTNOTREAL", "sandbox-secret-not-real", "1000.sandbox.refresh-token-not-real"
)


@dataclass(frozen=True, slots=True)
class SandboxUser:
    """One PhoneBridge user as ``GET users`` lists it."""

    zohouser: str
    email: str
    username: str


SANDBOX_USERS = (
    SandboxUser("20068510101", "ann.lee@example.com", "Ann Lee"),
    SandboxUser("20068510102", "ben.ortiz@example.com", "Ben Ortiz"),
    SandboxUser("20068510103", "cora.diaz@example.com", "Cora Diaz"),
    SandboxUser("20068510104", "dev.shah@example.com", "Dev Shah"),
    SandboxUser("20068510105", "emma.clarke@example.com", "Emma Clarke"),
    SandboxUser("20068510107", "gina.moss@example.com", "Gina Moss"),
)
"""Those of ``sample_data/agents.csv`` but for one each: an agent who is no user, a user who is no agent."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the service behaves; the defaults are section 8's first answers, every field a switch of it.

    The account (checked after the token, in this order):

    * ``provider_registered``: no gives 400 PROVIDER_NOT_REGISTERED.
    * ``permitted``: no gives 403 NO_PERMISSION (403 INTERNAL_ERROR on ``integrate``).
    * ``other_provider_enabled``: yes gives 403 DIFFERENT_PROVIDER_ALREADY_ENABLED.
    * ``integration_enabled``: no gives PBX_NOT_INTEGRATED with ``integration_status`` until somebody posts
      to ``integrate``.

    The token:

    * ``credentials``: the only ones the token endpoint knows.
    * ``invalid_token_status``: 401, or 400 as seen on the European host in 2019.
    * ``invalid_token_code``: other products say INVALID_OAUTHTOKEN or AUTHENTICATION_FAILURE.
    * ``accept_bearer``: sources conflict; by default ``Bearer`` is an invalid token.
    * ``call_log_scope``: no gives 401 OAUTH_SCOPE_MISMATCH on ``callnotify``.
    * ``token_seconds``: life of an access token; ``token_limit_per_10_minutes`` and ``active_token_limit`` as
      Zoho documents them; ``token_throttle_status`` 400 (seen) or 200 (an older post).
    * ``legacy_token_answer``: ``expires_in_sec`` in seconds and ``expires_in`` in milliseconds.
    * ``api_domain``: answered instead of the simulator's own base URL.

    The call:

    * ``terse_missing_parameter``: REQUIRED_PARAM_MISSING with the documented two words only.
    * ``refuse_unattended_states``: 400 for all six states, as one provider reports of the live service.
    * ``reject_far_times``: 400 for a ``start_time`` older than ``far_past_days`` or more than
      ``far_future_seconds`` ahead.
    * ``reject_non_e164``: 400 for ``from`` or ``to`` that is not ``+`` and up to 15 digits.
    * ``reject_odd_ids``: 400 for an ``id`` with other than letters and digits.
    * ``duplicate_id``: ``accept`` keeps a second record flagged as duplicate, ``update`` puts the new content
      in the place of the old, ``refuse`` gives 400.
    * ``unknown_zohouser``: ``refuse`` gives 400 INVALID_USER for a user outside ``known_zohousers``; None
      there means that any user is known.
    * ``invalid_value_code``: the code of every refused value. Zoho documents none: rely on none.
    * ``method_status``: 405 or 400 for a method other than POST.

    The traffic:

    * ``rate_limit``: requests and seconds of a rolling window; beyond it ``throttle_profile`` answers, see
      `importer.simulator.answers.throttle`. Checked after the token. A throttled request does not count.
    * ``retry_after_seconds``: None says when the window has room again; a number shuts everybody out for that
      long, whatever the window.
    * ``latency_seconds``: wait between taking a call in and answering it.
    * ``keep_alive``: no announces and closes the connection after every answer.

    Users: ``users`` are listed by ``GET users``; ``users_paging`` off leaves ``paging`` and ``navigation``
    out, as a real answer did.
    """

    provider_registered: bool = True
    permitted: bool = True
    other_provider_enabled: bool = False
    integration_enabled: bool = True
    integration_status: Literal[401, 400] = 401

    credentials: SandboxCredentials = SANDBOX_CREDENTIALS
    invalid_token_status: Literal[401, 400] = 401
    invalid_token_code: str = "INVALID_TOKEN"  # noqa: S105 - a word of the API, not a secret
    accept_bearer: bool = False
    call_log_scope: bool = True
    token_seconds: int = 3600
    token_limit_per_10_minutes: int = 10
    active_token_limit: int = 15
    token_throttle_status: Literal[400, 200] = 400
    legacy_token_answer: bool = False
    api_domain: str | None = None

    terse_missing_parameter: bool = False
    refuse_unattended_states: bool = False
    reject_far_times: bool = False
    far_past_days: int = 30
    far_future_seconds: int = 300
    reject_non_e164: bool = False
    reject_odd_ids: bool = False
    duplicate_id: Literal["accept", "update", "refuse"] = "accept"
    unknown_zohouser: Literal["refuse", "accept"] = "refuse"
    known_zohousers: frozenset[str] | None = None
    invalid_value_code: str = "INVALID_DATA"
    method_status: Literal[405, 400] = 405

    rate_limit: tuple[int, float] | None = None
    throttle_profile: ThrottleProfile = "A"
    retry_after_seconds: int | None = None
    latency_seconds: float = 0.0
    keep_alive: bool = True

    users: tuple[SandboxUser, ...] = SANDBOX_USERS
    users_paging: bool = True


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted deviation for the next ``times`` requests; without any field set, the ordinary answer.

    What is answered: ``status``, ``headers`` (replacing default ones of the same name) and ``body``; or with
    ``raw_answer`` these very bytes, then the end of the connection. Without either the ordinary answer, with
    the keys of ``changes`` set in its JSON and those of ``drops`` taken out.

    How it is answered: ``early_hints`` sends a 103 first; ``delay_seconds`` waits; ``drip_seconds`` is the
    pause after each byte; ``cut_body_after`` declares the whole length, sends so many bytes of the body and
    closes; ``trailing`` bytes follow a whole answer; ``close_after_answer`` closes without having said so.

    Not answered: ``close_before_reading`` and ``reset_before_reading`` end the connection when the head was
    seen and the body was not; ``close_after_reading`` and ``reset_after_reading`` when the whole request was;
    ``hang`` keeps the connection without a word until the simulator stops.

    ``store`` takes the call in although the answer does not say so, if nothing is wrong with it. A fault that
    leaves the ordinary answer in place always does. ``expire_tokens`` kills every access token before the
    request is judged.
    """

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    raw_answer: bytes | None = None
    changes: Mapping[str, object] = field(default_factory=dict)
    drops: tuple[str, ...] = ()
    early_hints: bool = False
    delay_seconds: float = 0.0
    drip_seconds: float = 0.0
    cut_body_after: int | None = None
    trailing: bytes = b""
    close_after_answer: bool = False
    close_before_reading: bool = False
    reset_before_reading: bool = False
    close_after_reading: bool = False
    reset_after_reading: bool = False
    hang: bool = False
    store: bool = False
    expire_tokens: bool = False
    times: int = 1

    def __post_init__(self) -> None:
        endings = sum(
            (
                self.status is not None,
                self.raw_answer is not None,
                self.drops_unread,
                self.drops_read,
                self.hang,
            )
        )
        if endings > 1 or self.times < 1:
            raise ValueError("a fault ends a request in one way, at least once")

    @property
    def drops_unread(self) -> bool:
        """Say whether the connection ends before the body is read."""
        return self.close_before_reading or self.reset_before_reading

    @property
    def drops_read(self) -> bool:
        """Say whether the connection ends after the body is read."""
        return self.close_after_reading or self.reset_after_reading

    @property
    def is_silent(self) -> bool:
        """Say whether the whole request is read and nothing is ever answered."""
        return self.drops_read or self.hang

    @property
    def takes_call(self) -> bool:
        """Say whether an acceptable call is stored."""
        ordinary = self.status is None and self.raw_answer is None
        return self.store or (ordinary and not self.is_silent and not self.drops_unread)

    def repeated(self, times: int) -> Self:
        """Return the same fault for ``times`` requests; see `FOREVER`."""
        return replace(self, times=times)

    @classmethod
    def of(cls, answer: Answer, *, store: bool = False) -> Self:
        """Return the fault that gives ``answer``."""
        return cls(status=answer.status, headers=answer.headers, body=answer.body, store=store)

    @classmethod
    def throttle(cls, profile: ThrottleProfile = "A", wait_seconds: int = 30) -> Self:
        """Return the throttle answer A, B or C of `importer.simulator.answers.throttle`."""
        return cls.of(throttle(profile, wait_seconds, (100, 120)))

    @classmethod
    def refusal(cls, code: str, status: int = 400) -> Self:
        """Return the error envelope with any code and status."""
        return cls.of(envelope(status, code, "refused by script"))

    @classmethod
    def internal_error(cls, *, store: bool = False) -> Self:
        """Return 500 INTERNAL_ERROR; with ``store`` the call was nevertheless taken in."""
        return cls.of(INTERNAL_ERROR, store=store)

    @classmethod
    def gateway(cls, status: int = 502, *, store: bool = False) -> Self:
        """Return the HTML page of a gateway that lost its upstream."""
        body = f"<html><body><h1>{status} Bad Gateway</h1></body></html>".encode()
        return cls(status=status, headers=(("Content-Type", HTML_TYPE),), body=body, store=store)

    @classmethod
    def expired_token(cls) -> Self:
        """Expire every access token as this request comes: it and all others fail until a refresh."""
        return cls(expire_tokens=True)

    @classmethod
    def lost_answer(cls) -> Self:
        """Take the call in and close the connection without a word."""
        return cls(close_after_reading=True, store=True)

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Self:
        """Send the client elsewhere."""
        return cls(status=status, headers=(("Location", location), ("Content-Type", HTML_TYPE)))

    @classmethod
    def login_page(cls) -> Self:
        """Return 200 with a sign-in page, as a captive portal or an intermediary does."""
        body = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form></form></body></html>"
        return cls(status=200, headers=(("Content-Type", HTML_TYPE),), body=body)

    @classmethod
    def cut_answer(cls, sent_bytes: int = 10) -> Self:
        """Take the call in and break off in the middle of the ordinary answer's body."""
        return cls(cut_body_after=sent_bytes)


ORDINARY = Fault()
"""No deviation; fills the places before a fault: ``script(ORDINARY.repeated(9), Fault.lost_answer())``."""

NO_FIELDS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it arrived.

    ``moment`` is the clock's seconds when the head had been read; ``fields`` the decoded form; ``complete``
    says whether the whole body was read. ``status`` and ``code`` are those of the answer and None and empty
    until it goes out, when nothing was answered, or when the bytes sent are a fault's ``raw_answer``.
    ``stored`` says that the call was taken in, ``duplicate`` that its id was known already. ``sent`` are the
    bytes of the answer that the system took for the connection, whatever fault they show.
    """

    moment: float
    path: str
    fields: Mapping[str, str] = field(default_factory=lambda: NO_FIELDS)
    raw_body: bytes = b""
    status: int | None = None
    code: str = ""
    stored: bool = False
    duplicate: bool = False
    complete: bool = False
    sent: bytes = b""
