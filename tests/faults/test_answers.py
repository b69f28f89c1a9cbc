"""Every answer there can be, held against the one table of what it proves; a part of them over the wire."""

import json
import re
from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import cases, table
from faults.night import Night
from importer.client.classify import BODY_DECIDES, CODES, NEEDS_NO_BODY, STATUSES, Judgement, Proof, classify
from importer.client.connection import BODY_LIMIT_BYTES, Answer
from importer.errors import ExitCode
from judge.answers import EXCEPTIONS, ROWS, TABLE, statuses_in
from misbehaviour import CALLS, TOKENS, Fault
from misbehaviour.connections import SUCCESS_BODY as SUCCESS

CASES = cases("answers")
FEWEST_CASES = 8_000

Verdict = tuple[str, str, int, int]


def envelope(code: str) -> bytes:
    """Return the service's error body with a code."""
    return json.dumps({"code": code, "details": {}, "message": "m", "status": "error"}).encode()


BODIES: Mapping[str, tuple[str, bytes]] = {
    "documented success": ("documented", SUCCESS),
    "success in capitals": ("claimed", SUCCESS.replace(b"success", b"SUCCESS")),
    "success and something else": ("claimed", SUCCESS[:-1] + b',"error":{"title":"BUSY"}}'),
    "unknown code": ("plain", envelope("SOMETHING_NEW")),
    "empty object": ("plain", b"{}"),
    "a list": ("plain", b"[]"),
    "page": ("page", b"<!DOCTYPE html><html>Sign in</html>"),
    "text": ("page", b"Access Denied"),
    "word": ("page", b"SUCCESS"),
    "true": ("plain", b"true"),
    "XML": ("page", b"<?xml version='1.0'?>"),
    "nothing": ("plain", b""),
    "blanks": ("plain", b" \r\n"),
    "cut": ("plain", SUCCESS[:-1]),
    "success with something behind it": ("plain", SUCCESS + b" trailing"),
    "a key twice": ("plain", b'{"status":"success","code":"SUCCESS","code":"BUSY"}'),
    "not a number": ("plain", b'{"status":"error","a":NaN}'),
    "another encoding": ("plain", SUCCESS.decode().encode("utf-16")),
    "oversized": ("oversized", b" " * (BODY_LIMIT_BYTES + 1)),
    "encoded": ("encoded", b"\x1f\x8b\x08"),
}
"""Kind of body -> column of the table, and the body."""
PLAYED = [*range(100, 600), 600, 999]
ENDS = sorted({int(end) for row in TABLE["answers"] for end in re.findall(r"\d+", row["statuses"])})


def verdict(name: str) -> Verdict:
    """Return a verdict of the table by name."""
    proof, reaction, exit_code, in_a_row = TABLE["verdicts"][name]
    return (proof, reaction, exit_code, in_a_row)


def expected(status: int, column: str) -> Verdict:
    """Return the verdict of a status for a body that names no known code."""
    row = ROWS[status]
    fallback = {"documented": "claimed", "page": "plain"}
    return verdict(row[column] if column in row else row[fallback[column]])


def judged(status: int, body: bytes, **headers: str) -> Judgement:
    """Judge one answer; header names with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Answer(status, body, named), now_epoch=0.0)


def found(judgement: Judgement) -> Verdict:
    """Reduce a judgement to what the table says."""
    return (judgement.proof, judgement.reaction, int(judgement.exit_code or 0), judgement.stop_after)


def test_table_is_whole() -> None:
    """Each status of HTTP, and those beyond, stands in exactly one row, and each code that the program knows."""
    named = [status for row in TABLE["answers"] for status in statuses_in(row["statuses"])]
    assert sorted(named) == list(range(100, 1000))
    assert set(TABLE["codes"]) == set(CODES)
    assert not BODY_DECIDES & (set(STATUSES) | NEEDS_NO_BODY)


@pytest.mark.fault(73, 84, 85, 87)
def test_every_status_with_every_body() -> None:
    """Status and kind of body decide where no code is known; only the documented answer is success."""
    cases = list(product(PLAYED, BODIES))
    for status, name in cases:
        column, body = BODIES[name]
        judgement = judged(status, body, **({"content_encoding": "gzip"} if column == "encoded" else {}))
        assert found(judgement) == expected(status, column), (status, name)
        is_taken = (status, name) == (200, "documented success")
        assert (judgement.proof is Proof.TAKEN) == is_taken
        # A reason is a slug, a hint is a sentence.
        assert is_taken or (judgement.reason.replace("_", "").islower() and judgement.hint.endswith((".", "?")))
        place = {ExitCode.PROTOCOL: "proxy", ExitCode.NOT_PERMITTED: "auth login"}
        if judgement.exit_code and judgement.proof is not Proof.REFUSED:
            assert place.get(judgement.exit_code, "") in judgement.hint
    assert len(cases) > FEWEST_CASES


@pytest.mark.fault(73)
def test_every_status_with_every_code() -> None:
    """A known service code outranks the status, also as the title of an error object."""
    for status, code in product(ENDS, TABLE["codes"]):
        meant = verdict(EXCEPTIONS.get((status, code), TABLE["codes"][code]))
        for body in (envelope(code), json.dumps({"error": {"title": code}}).encode()):
            assert found(judged(status, body)) == meant, (status, body)


def bytes_of(body: bytes | str) -> bytes:
    """Return a body of the table as it is sent."""
    return body if isinstance(body, bytes) else body.encode("latin-1")


def text_after_success(text: bytes) -> bytes:
    """Return the words of success with another member behind them."""
    return SUCCESS[:-1] + b"," + text + b"}"


@pytest.mark.fault(84, 85, 87)
@table(
    ("name", "body"),
    [
        *CASES["success"],
        ("hold", text_after_success(b'"a":' + b"9" * 5000)),
        ("hold", text_after_success(b'"a":' + b"[" * 20000 + b"]" * 20000)),
        ("hold", b'{"a":' * 10000 + b"1" + b"}" * 10000),
        *(("hold", SUCCESS[:length]) for length in range(len(SUCCESS))),
    ],
)
def test_success(name: str, body: bytes | str) -> None:
    """Under 200, one strict JSON object with the two words of success is success; what looks like it is held."""
    assert found(judged(200, bytes_of(body))) == verdict(name)


def throttle(text: str) -> bytes:
    """Return the throttle of the security filter that Zoho products share."""
    details = {"message": f"Cannot execute more than 100 requests per API in 2 minutes. {text}"}
    return json.dumps({"error": {"title": "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED", "details": details}}).encode()


IN_22_MINUTES = throttle("Try again after 22 minutes.")


@pytest.mark.fault(74, 78, 131)
@table(("status", "body", "headers", "name", "wait_seconds"), CASES["waits"])
def test_wait(status: int, body: str, headers: dict[str, str], name: str, wait_seconds: float | str) -> None:
    """A throttle, in whatever dialect, waits as long as header or text ask; nothing else waits."""
    judgement = judged(status, bytes_of(body), **headers)
    assert (found(judgement), judgement.wait_seconds or "") == (verdict(name), wait_seconds)


@table(
    ("body", "shown"),
    [
        (envelope("=cmd()|x"), "cmdx"),
        (envelope("a\r\nb\x1b[2Jc"), "ab2Jc"),
        (envelope("x" * 500), "x" * 64),
        (envelope("\u202eabc"), "abc"),
        (IN_22_MINUTES, "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED"),
    ],
)
def test_code_is_clean(body: bytes, shown: str) -> None:
    """The service's code, also one in error.title, is reduced to plain characters, at most 64."""
    assert judged(400, body).code == shown


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["status", "code", "error", "title"]), inner)
    ),
    max_leaves=8,
)


@given(
    status=st.integers(0, 1000),
    body=st.binary(max_size=80) | ANY_JSON.map(lambda value: json.dumps(value).encode()),
    headers=st.dictionaries(st.sampled_from(["retry-after", "date", "content-encoding"]), st.text(max_size=12)),
)
def test_judging_never_raises(status: int, body: bytes, headers: dict[str, str]) -> None:
    """Whatever comes is judged, and only the documented success is taken."""
    if classify(Answer(status, body, headers), now_epoch=0.0).proof is Proof.TAKEN:
        fields = json.loads(body)
        assert (status, fields["status"], fields["code"]) == (200, "success", "SUCCESS")


STATE_OF = {"taken": "accepted", "refused": "refused", "unknown": "uncertain", "not_applied": "pending"}
CODE_OF_STATE = {"accepted": 0, "refused": 3, "uncertain": 4}


@pytest.mark.fault(73, 81, 82, 83)
@pytest.mark.parametrize(("status", "name"), [each for sent in CASES["sent"] for each in product(*sent)])
def test_over_the_wire(night: Night, status: int, name: str) -> None:
    """An answer from a socket puts the call where the table says, with one post, one row, and the exit code."""
    column, body = BODIES[name]
    proof, reaction, exit_code, _ = expected(status, column)
    headers = [("Content-Type", "application/json"), ("Location", f"{night.api.base_url}/elsewhere")]
    if column == "encoded":
        headers.append(("Content-Encoding", "gzip"))
    night.api.script(Fault(status=status, headers=tuple(headers), body=b"" if status == 304 else body))
    night.take_in(1)
    ended = night.run()
    state = STATE_OF[proof]
    assert ended.code == (exit_code if reaction == "stop" else CODE_OF_STATE[state])
    assert [(row["outcome"], row["http_status"]) for row in ended.rows] == [(state, str(status))]
    assert {path: len(requests) for path, requests in night.api.arrived.items()} == {CALLS: 1, TOKENS: 1}
