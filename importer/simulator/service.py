"""The service behind the socket: judges requests, keeps the calls it took in and a record of what arrived."""

import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Literal
from urllib.parse import parse_qsl

from importer.simulator import answers
from importer.simulator.answers import Answer
from importer.simulator.behaviour import NO_FIELDS, ORDINARY, Arrival, Behaviour, Fault
from importer.simulator.tokens import TokenBook

MANDATORY = ("type", "state", "id", "from", "to", "start_time")
UNATTENDED_STATES = frozenset({"busy", "invalid", "blocked", "notavailable", "noanswer", "rejected"})
FORM_TYPE = "application/x-www-form-urlencoded"
PROVIDER = "Sandbox"
GRANT_CODE_SECONDS = 180.0
USERS_PER_PAGE = 100
MOST_USERS_PER_PAGE = 1000

_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_PLAIN_ID = re.compile(r"[A-Za-z0-9]+")
_START_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")

Door = Literal["calls", "tokens"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole; ``moment`` is the clock's seconds when its head had been read."""

    method: str
    path: str
    query: str
    authorization: str
    content_type: str
    body: bytes
    moment: float

    def form(self) -> Mapping[str, str]:
        """Return the decoded form body; empty for any other kind of body."""
        if self.content_type.partition(";")[0].strip().lower() != FORM_TYPE:
            return NO_FIELDS
        return _first_values(self.body.decode("utf-8", "replace"))


def _first_values(text: str) -> Mapping[str, str]:
    fields: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        # A servlet's getParameter takes the first of several.
        fields.setdefault(name, value)
    return MappingProxyType(fields)


@dataclass(frozen=True, slots=True)
class TakenCall:
    """A call taken in: its decoded fields, when (ISO 8601, UTC), and whether its id was known already."""

    fields: Mapping[str, str]
    arrived_at: str
    duplicate: bool


class RollingLimit:
    """Counts requests in a rolling window, as a throttle in front of the service does."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque()
        self._shut_until = -math.inf

    def wait_seconds(self, moment: float, limit: tuple[int, float], shut_seconds: int | None) -> int:
        """Let a request through and return 0, or return the whole seconds it has to wait."""
        requests, period_seconds = limit
        while self._moments and self._moments[0] <= moment - period_seconds:
            self._moments.popleft()
        if moment >= self._shut_until:
            if len(self._moments) < requests:
                self._moments.append(moment)
                return 0
            free_at = self._moments[0] + period_seconds if self._moments else moment + period_seconds
            self._shut_until = free_at if shut_seconds is None else moment + shut_seconds
        return max(1, math.ceil(self._shut_until - moment))


def most_in_any_window(moments: Iterable[float], period_seconds: float) -> int:
    """Return how many of ``moments`` fall at most into one half-open window of ``period_seconds``."""
    window: deque[float] = deque()
    most = 0
    for moment in sorted(moments):
        window.append(moment)
        while window[0] <= moment - period_seconds:
            window.popleft()
        most = max(most, len(window))
    return most


def content_refusal(fields: Mapping[str, str], behaviour: Behaviour, now: datetime) -> Answer | None:
    """Return the refusal of a call's content in the order of zoho-api.md 8.1, or None."""
    missing = next((name for name in MANDATORY if not fields.get(name)), None)
    if missing is not None:
        return answers.missing_parameter(missing, terse=behaviour.terse_missing_parameter)
    wrong = _wrong_parameter(fields, behaviour, now)
    if wrong is not None:
        return answers.envelope(400, behaviour.invalid_value_code, "invalid value", param=wrong)
    user, known = fields.get("zohouser"), behaviour.known_zohousers
    if user and behaviour.unknown_zohouser == "refuse" and known is not None and user not in known:
        return answers.UNKNOWN_USER
    return None


def _wrong_parameter(fields: Mapping[str, str], behaviour: Behaviour, now: datetime) -> str | None:
    refused = frozenset[str]() if behaviour.refuse_unattended_states else UNATTENDED_STATES
    if fields["type"] != "dialed":
        return "type"
    if fields["state"] not in refused:
        return "state"
    if _is_wrong_time(fields["start_time"], behaviour, now):
        return "start_time"
    if behaviour.reject_non_e164:
        wrong = next((name for name in ("from", "to") if not _E164.fullmatch(fields[name])), None)
        if wrong is not None:
            return wrong
    if behaviour.reject_odd_ids and not _PLAIN_ID.fullmatch(fields["id"]):
        return "id"
    return None


def _is_wrong_time(text: str, behaviour: Behaviour, now: datetime) -> bool:
    if not _START_TIME.fullmatch(text):
        return True
    try:
        start = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return True
    age = now - start
    is_far = age > timedelta(days=behaviour.far_past_days) or -age > timedelta(
        seconds=behaviour.far_future_seconds
    )
    return behaviour.reject_far_times and is_far


class Service:
    """The state of one simulator under one lock.

    ``clock`` counts seconds (tokens, limits, arrivals), ``wall_clock`` is seconds since 1970 (what people read,
    and the age of a call). ``base_url`` is set once the port is known.
    """

    def __init__(self, behaviour: Behaviour, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self.clock = clock
        self.wall_clock = wall_clock
        self.base_url = ""
        self._behaviour = behaviour
        self._lock = threading.Lock()
        self._tokens = TokenBook()
        self._limit = RollingLimit()
        self._taken: list[TakenCall] = []
        self._places: dict[str, int] = {}
        self._arrivals: dict[Door, list[Arrival]] = {"calls": [], "tokens": []}
        self._scripts: dict[Door, deque[Fault]] = {"calls": deque(), "tokens": deque()}

    @property
    def behaviour(self) -> Behaviour:
        """The switches as they stand."""
        with self._lock:
            return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        with self._lock:
            self._behaviour = behaviour

    def script(self, door: Door, faults: Iterable[Fault]) -> None:
        """Queue faults behind those already waiting."""
        with self._lock:
            self._scripts[door].extend(faults)

    def expire_tokens(self) -> None:
        """Make every access token given out so far invalid."""
        with self._lock:
            self._tokens.expire_all()

    def issue_grant_code(self) -> str:
        """Return a grant code good for one use within three minutes (zoho-api.md 2.1)."""
        with self._lock:
            return self._tokens.issue_grant_code(self.clock() + GRANT_CODE_SECONDS)

    def taken(self) -> tuple[TakenCall, ...]:
        """Return the calls taken in, in order."""
        with self._lock:
            return tuple(self._taken)

    def arrivals(self, door: Door) -> tuple[Arrival, ...]:
        """Return what arrived at one door, in order."""
        with self._lock:
            return tuple(self._arrivals[door])

    def admit(self, door: Door, moment: float, path: str) -> tuple[int, Fault]:
        """Record that a request's head was read; return its place in the record and the fault to play."""
        with self._lock:
            self._arrivals[door].append(Arrival(moment, path))
            return len(self._arrivals[door]) - 1, self._next_fault(door)

    def _next_fault(self, door: Door) -> Fault:
        script = self._scripts[door]
        if not script:
            return ORDINARY
        fault = script.popleft()
        if fault.times > 1:
            script.appendleft(fault.repeated(fault.times - 1))
        return fault

    def record_answer(self, door: Door, place: int, status: int | None, code: str) -> None:
        """Record what is answered, or with None that it could not be sent."""
        with self._lock:
            arrival = self._arrivals[door][place]
            self._arrivals[door][place] = replace(arrival, status=status, code=code)

    def record_sent(self, door: Door, place: int, sent: bytes) -> None:
        """Record all bytes of the answer so far."""
        with self._lock:
            self._arrivals[door][place] = replace(self._arrivals[door][place], sent=sent)

    def notify(self, place: int, request: Request, fault: Fault) -> Answer:
        """Judge a whole ``callnotify`` request and take the call in if nothing is against it."""
        fields = request.form()
        arrived_at = self.wall_clock()
        with self._lock:
            if fault.expire_tokens:
                self._tokens.expire_all()
            is_duplicate = fields.get("id") in self._places
            answer = self._call_refusal(request, fields, datetime.fromtimestamp(arrived_at, UTC))
            if answer is None and is_duplicate and self._behaviour.duplicate_id == "refuse":
                answer = answers.REPEATED_ID
            is_stored = answer is None and fault.takes_call
            if is_stored:
                self._take(TakenCall(fields, _iso(arrived_at), is_duplicate))
            self._arrivals["calls"][place] = replace(
                self._arrivals["calls"][place],
                fields=fields,
                raw_body=request.body,
                stored=is_stored,
                duplicate=is_duplicate,
                complete=True,
            )
        return answers.SUCCESS if answer is None else answer

    def _take(self, call: TakenCall) -> None:
        call_id = call.fields["id"]
        if call.duplicate and self._behaviour.duplicate_id == "update":
            self._taken[self._places[call_id]] = call
            return
        self._places.setdefault(call_id, len(self._taken))
        self._taken.append(call)

    def _call_refusal(self, request: Request, fields: Mapping[str, str], now: datetime) -> Answer | None:
        behaviour = self._behaviour
        if request.method != "POST":
            return answers.wrong_method(behaviour.method_status, "POST")
        return (
            self._token_refusal(request)
            or (None if behaviour.call_log_scope else answers.NO_SCOPE)
            or self._throttle_refusal(request.moment)
            or self._account_refusal()
            or content_refusal(fields, behaviour, now)
        )

    def _token_refusal(self, request: Request) -> Answer | None:
        if not request.authorization.strip():
            return answers.NO_AUTHORIZATION
        scheme, _, token = request.authorization.strip().partition(" ")
        schemes = {"zoho-oauthtoken", "bearer"} if self._behaviour.accept_bearer else {"zoho-oauthtoken"}
        if scheme.lower() in schemes and self._tokens.is_good(token.strip(), self.clock()):
            return None
        behaviour = self._behaviour
        return answers.envelope(
            behaviour.invalid_token_status, behaviour.invalid_token_code, "invalid oauth token"
        )

    def _throttle_refusal(self, moment: float) -> Answer | None:
        behaviour = self._behaviour
        if behaviour.rate_limit is None:
            return None
        wait = self._limit.wait_seconds(moment, behaviour.rate_limit, behaviour.retry_after_seconds)
        return answers.throttle(behaviour.throttle_profile, wait, behaviour.rate_limit) if wait else None

    def _account_refusal(self) -> Answer | None:
        behaviour = self._behaviour
        if not behaviour.provider_registered:
            return answers.NO_PROVIDER
        if not behaviour.permitted:
            return answers.NO_PERMISSION
        if behaviour.other_provider_enabled:
            return answers.OTHER_PROVIDER
        if not behaviour.integration_enabled:
            message = f"{PROVIDER} PBX Integration is not enabled"
            return answers.envelope(behaviour.integration_status, "PBX_NOT_INTEGRATED", message)
        return None

    def token(self, place: int, request: Request, fault: Fault) -> Answer:
        """Answer the token endpoint; values are taken from the form body and, as on Zoho, from the query."""
        fields = MappingProxyType({**_first_values(request.query), **request.form()})
        with self._lock:
            if fault.expire_tokens:
                self._tokens.expire_all()
            self._arrivals["tokens"][place] = replace(
                self._arrivals["tokens"][place], fields=fields, raw_body=request.body, complete=True
            )
            if request.method != "POST":
                return answers.wrong_method(405, "POST")
            return self._tokens.answer(fields, self._behaviour, self.base_url, self.clock())

    def users(self, request: Request) -> Answer:
        """List the users of the sandbox, page by page (zoho-api.md 1.4)."""
        with self._lock:
            refusal = self._token_refusal(request) or self._account_refusal()
            behaviour = self._behaviour
        # Listing users comes before the integration is switched on: it tells whom to switch on.
        if refusal is not None and refusal.code != "PBX_NOT_INTEGRATED":
            return refusal
        return _users_page(_first_values(request.query), behaviour)

    def integrate(self, request: Request) -> Answer:
        """Switch the integration on (POST) or off (DELETE)."""
        with self._lock:
            refusal = self._token_refusal(request) or self._account_refusal()
            if refusal is not None and refusal.code != "PBX_NOT_INTEGRATED":
                return answers.NO_PRIVILEGE if refusal is answers.NO_PERMISSION else refusal
            is_on = request.method == "POST"
            self._behaviour = replace(self._behaviour, integration_enabled=is_on)
        done = "successful" if is_on else "disabled"
        message = f"{PROVIDER} Integration is {done}"
        return answers.json_answer(200, {"message": message, "status": "success", "code": "SUCCESS"})

    def server_info(self) -> Answer:
        """Name this very simulator as the accounts host of its only data centre."""
        return answers.json_answer(200, {"result": "success", "locations": {"us": self.base_url}})

    def calls_page(self) -> Answer:
        """List the calls taken in, decoded, for people and other programs."""
        calls = [
            {**call.fields, "arrived_at": call.arrived_at, "duplicate": call.duplicate} for call in self.taken()
        ]
        return answers.json_answer(200, calls)

    def code_page(self) -> Answer:
        """Give a grant code, as Zoho's API console would show it."""
        return answers.text_answer(self.issue_grant_code() + "\n")

    def status_page(self) -> Answer:
        """Say in a few lines of text what has happened so far."""
        taken, arrivals = self.taken(), self.arrivals("calls")
        lines = (
            "cdr-importer sandbox: a simulator, nothing here reaches Zoho",
            f"callnotify requests  {len(arrivals)}",
            f"calls taken in       {len(taken)}",
            f"of them duplicates   {sum(call.duplicate for call in taken)}",
            f"token requests       {len(self.arrivals('tokens'))}",
            "the calls themselves: GET /sandbox/calls",
            "a code for a sign-in: GET /sandbox/code",
        )
        return answers.text_answer("\n".join(lines) + "\n")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _users_page(query: Mapping[str, str], behaviour: Behaviour) -> Answer:
    numbers: dict[str, int] = {}
    for name, default, most in (("page", 1, 10**6), ("perPage", USERS_PER_PAGE, MOST_USERS_PER_PAGE)):
        text = query.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= most:
            return answers.envelope(400, behaviour.invalid_value_code, "invalid value", param=name)
        numbers[name] = int(text)
    first = (numbers["page"] - 1) * numbers["perPage"]
    users = [asdict(user) for user in behaviour.users[first : first + numbers["perPage"]]]
    content: dict[str, object] = {"users": users}
    if behaviour.users_paging:
        has_more = first + numbers["perPage"] < len(behaviour.users)
        content |= {"paging": {"perPage": numbers["perPage"], "page": numbers["page"]}}
        content |= {"navigation": {"next": has_more, "previous": numbers["page"] > 1}}
    return answers.json_answer(200, content)
