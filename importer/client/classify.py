"""What an answer, or the lack of one, proves about a call and what to do next: every dialect in one place.

Status, body and header decide by the tables below; a service code that is known outranks the status, because
PhoneBridge was seen answering ``INVALID_TOKEN`` with status 400 and throttles come with 400, 200 and 429.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from importer.client.connection import BODY_LIMIT_BYTES, Answer
from importer.client.failures import SendFailure
from importer.errors import ExitCode
from importer.pacing import parse_retry_after


class Proof(StrEnum):
    """What is certain about the call after one request."""

    NOT_SENT = "not_sent"
    NOT_APPLIED = "not_applied"
    TAKEN = "taken"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Reaction(StrEnum):
    """What the run does next: another call, this call again (now, after a wait, with a new token), or end."""

    GO_ON = "go_on"
    RETRY = "retry"
    WAIT = "wait"
    RENEW_TOKEN = "renew_token"  # noqa: S105 a word, not a secret
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer or a failure proves, and the reaction.

    ``reason`` is a stable slug and ``hint`` a sentence, both for the results file; ``code`` is the service's own,
    reduced to ``[A-Za-z0-9_ .-]{0,64}``. ``stop_after`` equal judgements in a row end the run with ``exit_code``
    (1 at once, 0 never by count); where retries, waits or token renewals run out, ``exit_code`` applies too.
    ``wait_seconds`` is the wait the service asks for, None where it names none; ``most_tries`` bounds the requests
    of one call closer than the run does, 0 not at all. ``http_status`` is None where no complete answer came.
    """

    proof: Proof
    reaction: Reaction
    reason: str = ""
    hint: str = ""
    code: str = ""
    exit_code: ExitCode | None = None
    stop_after: int = 0
    wait_seconds: float | None = None
    most_tries: int = 0
    http_status: int | None = None


def _hold(reason: str, what: str, exit_code: ExitCode | None, stop_after: int = 0) -> Judgement:
    """Return the judgement of an answer that proves nothing: the call stays uncertain."""
    reaction = Reaction.STOP if stop_after == 1 else Reaction.GO_ON
    check = "Check proxy, portal and --data-center. " if exit_code is ExitCode.PROTOCOL else ""
    hint = f"{what} {check}Look for the call in Zoho, then settle it with `cdr-importer resolve`."
    return Judgement(Proof.UNKNOWN, reaction, reason, hint, exit_code=exit_code, stop_after=stop_after)


def _refuse(reason: str, hint: str, exit_code: ExitCode, stop_after: int) -> Judgement:
    """Return the judgement of an answer that refuses this call."""
    return Judgement(Proof.REFUSED, Reaction.GO_ON, reason, hint, exit_code=exit_code, stop_after=stop_after)


def _stop(
    reason: str,
    what: str,
    advice: str,
    exit_code: ExitCode = ExitCode.NOT_PERMITTED,
    proof: Proof = Proof.NOT_APPLIED,
) -> Judgement:
    """Return the judgement of an answer that every call would get: the run ends, and the call stays pending."""
    hint = f"{what} The call stays pending. {advice}"
    return Judgement(proof, Reaction.STOP, reason, hint, exit_code=exit_code, stop_after=1)


def _again(reaction: Reaction, reason: str, what: str, exit_code: ExitCode, advice: str = "") -> Judgement:
    """Return the judgement of an answer to a request that was not applied and may be repeated."""
    hint = f"{what} The call stays pending. {advice}".rstrip()
    return Judgement(Proof.NOT_APPLIED, reaction, reason, hint, exit_code=exit_code)


TAKEN = Judgement(Proof.TAKEN, Reaction.GO_ON, code="SUCCESS", http_status=200)

TOKEN = _again(
    Reaction.RENEW_TOKEN,
    "token_refused",
    "The access token was refused.",
    ExitCode.NOT_PERMITTED,
    "If a new one is refused too, authorise again: `cdr-importer auth login`.",
)
THROTTLED = _again(
    Reaction.WAIT,
    "throttled",
    "The service takes no more requests for a while.",
    ExitCode.TRY_LATER,
    "Lower --rate if this repeats.",
)
OVERLOADED = _again(Reaction.WAIT, "overloaded", "The service asks to come back later.", ExitCode.TRY_LATER)
SCOPE = _stop(
    "scope_missing",
    "The token lacks the scope PhoneBridge.call.log.",
    "Authorise again with that scope: `cdr-importer auth login`.",
)
NOT_ENABLED = _stop(
    "integration_not_enabled",
    "The PhoneBridge integration is not enabled for this account.",
    "Enable it in Zoho, then run again.",
)
NOT_REGISTERED = _stop(
    "provider_not_registered",
    "The client id is not that of a registered PhoneBridge provider.",
    "Check the client id.",
)
OTHER_PROVIDER = _stop(
    "other_provider_enabled",
    "Another telephony provider is enabled for this account.",
    "Disable it in Zoho, then run again.",
)
FORBIDDEN = _stop(
    "not_permitted",
    "The signed-in user may not do this.",
    "Authorise as a user with PhoneBridge rights: `cdr-importer auth login`.",
)
INVALID_USER = _refuse(
    "invalid_user",
    "The service does not know the call's user: check zohouser in the agents file or --default-zohouser.",
    ExitCode.CONFIGURATION,
    3,
)
PARAMETER_MISSING = _refuse(
    "parameter_missing",
    "The service misses a mandatory field of this call: check the row's values.",
    ExitCode.PROTOCOL,
    3,
)
INTERNAL_ERROR = _hold("server_error", "The service failed while it had the call.", ExitCode.UNAVAILABLE, 2)

CODES: Mapping[str, Judgement] = {
    "INVALID_TOKEN": TOKEN,  # 400 on v3 callnotify: pastebin VkvZW1Vy; 401: ntidev/ZohoPhoneBridgeClient
    "INVALID_OAUTHTOKEN": TOKEN,  # Zoho CRM v8 token-validity page
    "AUTHENTICATION_FAILURE": TOKEN,  # in place of INVALID_TOKEN now and then: rikas/zoho_hub PRs 34 and 46
    "OAUTH_SCOPE_MISMATCH": SCOPE,  # zoho/crm-oas share_records.json; a refresh would only waste the quota
    "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED": THROTTLED,  # Zoho Projects, status 400, in error.title; also under 200
    "TOO_MANY_REQUESTS": THROTTLED,  # zoho/crm-oas bulk_read.json; Kaizen 203
    "request_limit_exceeded": THROTTLED,  # Zoho Cliq, status 400: topic zoho-cliq-api-rate-limit
    "PBX_NOT_INTEGRATED": NOT_ENABLED,  # ntidev/ZohoPhoneBridgeClient
    "PROVIDER_NOT_REGISTERED": NOT_REGISTERED,  # zoho.com/phonebridge/developer/v3/integration.html
    "DIFFERENT_PROVIDER_ALREADY_ENABLED": OTHER_PROVIDER,  # zoho.com/phonebridge/developer/v3/zoho-user-list.html
    "NO_PERMISSION": FORBIDDEN,  # zoho.com/phonebridge/developer/v3/zoho-user-list.html
    "INVALID_USER": INVALID_USER,  # status 400: ntidev/ZohoPhoneBridgeClient
    "REQUIRED_PARAM_MISSING": PARAMETER_MISSING,  # zoho.com/phonebridge/developer/v3/outgoing-unattended.html
    "INTERNAL_ERROR": INTERNAL_ERROR,  # status 500, "an exception while processing": outgoing-unattended.html
}
"""Service codes; a code not here falls to the status, never to success."""

CODES_UNDER: Mapping[tuple[int, str], Judgement] = {
    (403, "INTERNAL_ERROR"): FORBIDDEN  # the user lacks the privilege: integration.html
}
"""Codes that mean something else under one status; looked up before `CODES`."""

WRONG_ADDRESS = _stop(
    "wrong_address",
    "The API is not at this address.",
    "Check --data-center and --api-url.",
    ExitCode.CONFIGURATION,
)
OUR_REQUEST = _stop(
    "request_not_understood",
    "The service does not understand how the request is built.",
    "Please report this as a bug.",
    ExitCode.INTERNAL,
)
TOO_LARGE = _refuse("too_large", "The service finds this call too large.", ExitCode.INTERNAL, 2)
REFUSED = _refuse(
    "refused_by_service",
    "The service refuses this call; `code` and `http_status` say how. Mend the row and import it again; "
    "where it is right, --retry-refused sends it as it is.",
    ExitCode.PROTOCOL,
    3,
)
REDIRECTED = _hold(
    "redirected", "A redirect answered in place of the API; it was not followed.", ExitCode.PROTOCOL, 1
)
MOVED = _stop(
    "moved",
    "The service redirects to another address; it is not followed.",
    "Check --api-url and --proxy.",
    ExitCode.PROTOCOL,
)
PROXY_SIGN_IN = _stop(
    "proxy_sign_in",
    "The proxy wants a sign-in of its own.",
    "Put user and password in --proxy.",
    ExitCode.CONFIGURATION,
)
NO_CONTENT = _hold("no_content", "The service answered without the words of success.", ExitCode.PROTOCOL, 2)
UNEXPECTED = _hold(
    "unexpected_status", "The service answered with a status that is not the API's.", ExitCode.PROTOCOL, 1
)
INFORMATIONAL = _hold("informational_answer", "Only an interim answer came.", ExitCode.PROTOCOL, 3)
SERVER_ERROR = _hold(
    "server_error", "The service or a gateway failed while it had the call.", ExitCode.UNAVAILABLE, 2
)
SERVICE_CONFLICT = _hold("service_conflict", "The service sees a conflict; it may hold the call already.", None)
NOT_RECEIVED = replace(
    _again(Reaction.RETRY, "not_received", "The service did not receive the whole request.", ExitCode.UNAVAILABLE),
    most_tries=2,
)
TOO_EARLY = _again(
    Reaction.RETRY, "too_early", "The service did not process the request yet.", ExitCode.UNAVAILABLE
)
MISDIRECTED = replace(
    _again(
        Reaction.RETRY,
        "misdirected",
        "The request reached a server that is not the API.",
        ExitCode.CONFIGURATION,
        "Check --api-url and --proxy.",
    ),
    stop_after=1,
    most_tries=2,
)

STATUSES: Mapping[int, Judgement] = {
    204: NO_CONTENT,
    205: NO_CONTENT,
    307: MOVED,  # asks for the same request elsewhere, so it was not applied here: RFC 9110 15.4.8
    308: MOVED,  # RFC 9110 15.4.9
    401: TOKEN,  # not applied: RFC 9110 15.5.2
    402: FORBIDDEN,
    403: FORBIDDEN,
    404: WRONG_ADDRESS,
    405: WRONG_ADDRESS,
    406: OUR_REQUEST,
    407: PROXY_SIGN_IN,
    408: NOT_RECEIVED,  # the complete request was not received: RFC 9110 15.5.9
    409: SERVICE_CONFLICT,
    410: WRONG_ADDRESS,
    411: OUR_REQUEST,
    413: TOO_LARGE,
    414: TOO_LARGE,
    415: OUR_REQUEST,
    417: OUR_REQUEST,
    421: MISDIRECTED,  # may be repeated on another connection: RFC 9110 15.5.20
    425: TOO_EARLY,  # not processed: RFC 8470 5.2
    426: OUR_REQUEST,
    429: THROTTLED,
    431: OUR_REQUEST,
    501: WRONG_ADDRESS,
    505: WRONG_ADDRESS,
}
"""Statuses with a meaning of their own; the others fall to their class."""

STATUS_CLASSES: Mapping[int, Judgement] = {
    1: INFORMATIONAL,
    2: UNEXPECTED,
    3: REDIRECTED,
    4: REFUSED,
    5: SERVER_ERROR,
}

BODY_DECIDES = frozenset({200, 201, 202})
"""Statuses that decide nothing by themselves: the shape of the body does."""

NEEDS_NO_BODY = frozenset({401, 404, 407, 408, 421, 425, 429})
"""Statuses whose meaning no body is expected to change, so that an unreadable one does no harm."""


SHAPES: Mapping[str, Judgement] = {
    reason: _hold(reason, sentence, ExitCode.PROTOCOL, stop_after)
    for reason, sentence, stop_after in (
        ("unknown_code", "The service answered with a code that is not known.", 3),
        ("empty_answer", "The answer is empty.", 3),
        ("web_page", "A page or text answered in place of the API: a login page or a proxy?", 1),
        ("broken_answer", "The answer is not one whole JSON object.", 3),
        ("encoded_answer", "The answer is compressed, which was not asked for.", 1),
        ("oversized_answer", "The answer is longer than 64 KiB.", 3),
    )
}
"""Where the status does not decide, the shape of the body does; that of one JSON object is `unknown_code`."""

CONTRADICTION = _hold(
    "contradictory_answer", "The answer says success and something else at once.", ExitCode.PROTOCOL, 3
)

TLS_REFUSED = _stop(
    "tls_refused",
    "The server refuses TLS as we speak it: it wants a version below 1.2, other ciphers or a client certificate.",
    "Check --api-url and --proxy.",
    ExitCode.CONFIGURATION,
    Proof.NOT_SENT,
)

FAILURES_BEFORE: Mapping[str, Judgement] = {
    "tls_certificate": _stop(
        "tls_certificate",
        "The server's certificate is not trusted.",
        "Check --ca-bundle, --api-url and the clock.",
        ExitCode.CONFIGURATION,
        Proof.NOT_SENT,
    ),
    "tls_refused": TLS_REFUSED,
    "tls_client_certificate": TLS_REFUSED,
    "proxy_sign_in": replace(PROXY_SIGN_IN, proof=Proof.NOT_SENT),
    "bad_address": replace(WRONG_ADDRESS, proof=Proof.NOT_SENT),
    "other": _stop(
        "send_failed",
        "Sending failed in an unknown way before the first byte.",
        "Please report this as a bug.",
        ExitCode.INTERNAL,
        Proof.NOT_SENT,
    ),
}
"""Failures before the first byte that trying again does not mend."""

NOT_REACHED = replace(
    _again(Reaction.RETRY, "", "The service is out of reach; nothing was sent.", ExitCode.UNAVAILABLE),
    proof=Proof.NOT_SENT,
)

FAILURES_AFTER: Mapping[str, Judgement] = {
    "tls_client_certificate": _hold("", "The server wants a client certificate.", ExitCode.CONFIGURATION, 1),
    "tls_certificate": _hold("", "The server's certificate is not trusted.", ExitCode.CONFIGURATION, 1),
    "interrupted": _hold("", "A second signal cut the request before its answer.", ExitCode.UNCERTAIN, 0),
    "malformed": _hold("", "What answers does not speak HTTP properly.", ExitCode.PROTOCOL, 1),
    "other": _hold("", "Sending failed in an unknown way; please report this as a bug.", ExitCode.INTERNAL, 1),
}
ANSWER_LOST = _hold("", "The call was sent, but no complete answer came.", ExitCode.UNAVAILABLE, 3)


def classify(answer: Answer, *, now_epoch: float) -> Judgement:
    """Judge a complete answer of callnotify; never raises.

    Success is exactly status 200 with ``status`` success and ``code`` SUCCESS in one strict JSON object.
    ``now_epoch`` stands in for a missing Date header when Retry-After is a date.
    """
    shape, fields = _read_body(answer)
    words = (fields.get("status"), fields.get("code"))
    # Further keys are allowed, an ``error`` is not.
    if answer.status == 200 and words == ("success", "SUCCESS") and not fields.get("error"):
        return TAKEN
    error = fields.get("error")
    inner: Mapping[str, object] = error if isinstance(error, dict) else {}
    codes = (fields.get("code"), inner.get("title"))
    code = next((each for each in codes if isinstance(each, str) and each), "")
    wait_seconds = _asked_wait_seconds(answer, fields, inner, now_epoch)
    status, word = answer.status, str(fields.get("status"))
    judgement = by_status = STATUSES.get(status) or STATUS_CLASSES.get(status // 100, UNEXPECTED)
    if shape in ("encoded_answer", "oversized_answer") and status not in NEEDS_NO_BODY:
        if by_status.proof is not Proof.UNKNOWN or status in BODY_DECIDES:
            judgement = SHAPES[shape]
    elif "success" in (word.lower(), code.lower()):
        # These words are not the documented answer. The run stops no later than by the status.
        judgement = replace(by_status, reason=CONTRADICTION.reason, hint=CONTRADICTION.hint)
        if status in BODY_DECIDES or by_status.proof is not Proof.UNKNOWN:
            judgement = CONTRADICTION
    elif by_code := CODES_UNDER.get((status, code)) or CODES.get(code):
        judgement = by_code
    elif status in BODY_DECIDES:
        judgement = SHAPES[shape]
    elif status == 503 and "retry-after" in answer.headers and wait_seconds is not None:
        judgement = OVERLOADED
    return replace(
        judgement,
        code=re.sub(r"[^A-Za-z0-9_ .-]", "", code)[:64],
        wait_seconds=wait_seconds if judgement.reaction is Reaction.WAIT else None,
        http_status=status,
    )


def judge_failure(failure: SendFailure) -> Judgement:
    """Judge a request without a complete answer: the mark of the first byte decides, not the kind."""
    if failure.first_byte:
        judgement = FAILURES_AFTER.get(failure.kind, ANSWER_LOST)
    else:
        judgement = FAILURES_BEFORE.get(failure.kind, NOT_REACHED)
    return judgement if judgement.reason else replace(judgement, reason=failure.kind)


def _read_body(answer: Answer) -> tuple[str, Mapping[str, object]]:
    """Return the shape of a body, a key of `SHAPES`, and the fields of one JSON object."""
    if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return "encoded_answer", {}
    if len(answer.body) > BODY_LIMIT_BYTES:
        return "oversized_answer", {}
    start = answer.body.lstrip()[:1]
    if not start:
        return "empty_answer", {}
    try:
        if answer.body.count(b"{") + answer.body.count(b"[") > 200:
            raise ValueError("nested too deep")
        fields = _STRICT_JSON.decode(answer.body.decode("utf-8"))
    except (ValueError, RecursionError):
        return "broken_answer" if start in b'{["\xff\xfe\xef\x00' else "web_page", {}
    return ("unknown_code", fields) if isinstance(fields, dict) else ("broken_answer", {})


def _agreeing(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, value in pairs:
        if key in fields and (fields[key] != value or type(fields[key]) is not type(value)):
            raise ValueError("a key stands twice with different values")
        fields[key] = value
    return fields


# json.loads by itself takes UTF-16, NaN, which int refuses, and the last of keys that disagree.
_STRICT_JSON = json.JSONDecoder(object_pairs_hook=_agreeing, parse_constant=int)


_TRY_AGAIN = re.compile(r"try again after ([0-9]{1,6}) (second|minute|hour)", re.IGNORECASE)
_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


def _asked_wait_seconds(
    answer: Answer, fields: Mapping[str, object], inner: Mapping[str, object], now_epoch: float
) -> float | None:
    header, date = answer.headers.get("retry-after"), answer.headers.get("date")
    asked = parse_retry_after(header, response_date=date, now_epoch=now_epoch)
    if asked is not None:
        return asked
    for where in (fields, inner, inner.get("details")):
        text = where.get("message") if isinstance(where, Mapping) else None
        match = _TRY_AGAIN.search(text) if isinstance(text, str) else None
        if match is not None:
            seconds = int(match[1]) * _UNIT_SECONDS[match[2].lower()]
            return parse_retry_after(str(seconds), response_date=None, now_epoch=now_epoch)
    return None
