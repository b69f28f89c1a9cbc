"""Every answer there can be, held against the one table of what it proves; a part of them over the wire."""

import json
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Program, call_row, read_results, table, write_export
from importer.client import Proof, classify
from importer.client.classify import BODY_DECIDES, CODES, NEEDS_NO_BODY, STATUSES, Judgement
from importer.client.connection import BODY_LIMIT_BYTES, Answer
from judge.answers import EXCEPTIONS, ROWS, TABLE, statuses_in
from misbehaviour import CALLS, TOKENS, Fault, Simulator

SUCCESS = b'{"status":"success","code":"SUCCESS"}'
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


def test_table_names_every_status_once() -> None:
    """Each status of HTTP, and those beyond, stands in exactly one row."""
    named = [status for row in TABLE["answers"] for status in statuses_in(row["statuses"])]
    assert sorted(named) == list(range(100, 1000))


def test_table_names_every_code() -> None:
    """Each code that the program knows stands in the table, and no other."""
    assert set(TABLE["codes"]) == set(CODES)


@pytest.mark.fault(73, 84, 85, 87)
def test_every_status_with_every_body() -> None:
    """Status and kind of body decide where no code is known; only the documented answer is success."""
    wrong = []
    cases = list(product(PLAYED, BODIES))
    for status, name in cases:
        column, body = BODIES[name]
        headers = {"content_encoding": "gzip"} if column == "encoded" else {}
        judgement = judged(status, body, **headers)
        if found(judgement) != expected(status, column):
            wrong.append((status, name, found(judgement)))
        is_taken = (status, name) == (200, "documented success")
        assert (judgement.proof is Proof.TAKEN) == is_taken
        # A reason is a slug, a hint is a sentence.
        assert is_taken or (judgement.reason.replace("_", "").islower() and judgement.hint.endswith((".", "?")))
    print(f"{len(cases)} answers judged by status and body")
    assert wrong == []
    assert len(cases) > FEWEST_CASES


@pytest.mark.fault(73)
def test_every_status_with_every_code() -> None:
    """A known service code outranks the status, also as the title of an error object."""
    wrong = []
    cases = list(product(ENDS, TABLE["codes"]))
    for status, code in cases:
        meant = verdict(EXCEPTIONS.get((status, code), TABLE["codes"][code]))
        for body in (envelope(code), json.dumps({"error": {"title": code}}).encode()):
            if found(judged(status, body)) != meant:
                wrong.append((status, code, body))
    print(f"{len(cases) * 2} answers judged by code")
    assert wrong == []


@pytest.mark.fault(78)
@table(("value", "name"), [("30", "wait"), ("-5", "outage"), ("soon", "outage"), ("", "outage")])
def test_overload_that_names_a_wait(value: str, name: str) -> None:
    """503 with a Retry-After that can be read is a wait, any other 503 an outage."""
    assert found(judged(503, b"<html>", retry_after=value)) == verdict(name)


def text_after_success(text: bytes) -> bytes:
    """Return the words of success with another member behind them."""
    return SUCCESS[:-1] + b"," + text + b"}"


@pytest.mark.fault(87)
@table(
    "body",
    [
        b'{"code":"SUCCESS","message":"done","details":{"a":[1,2.5,null,true]},"status":"success"}',
        b' \r\n{"status" : "success",\n"code" : "SUCCESS"}\n',
        b'{"status":"success","status":"success","code":"SUCCESS"}',
        text_after_success(b'"error":null'),
        b'{"status":"success","code":"\\u0053UCCESS"}',
    ],
)
def test_success(body: bytes) -> None:
    """Under 200, the two words of success in one strict JSON object are success; further keys are allowed."""
    assert found(judged(200, body)) == verdict("taken")


@pytest.mark.fault(84, 85, 87)
@table(
    "body",
    [
        b'{"status":"success","code":"success"}',
        b'{"status":"success"}',
        b'{"code":"SUCCESS"}',
        b'{"status":"error","code":"SUCCESS"}',
        b'{"status":"success","code":"INVALID_TOKEN"}',
        b'{"status":"success","code":"INVALID_USER"}',
        b'{"status":"error","status":"success","code":"SUCCESS"}',
        text_after_success(b'"error":{"title":"URL_ROLLING_THROTTLES_LIMIT_EXCEEDED"}'),
        text_after_success(b'"a":1,"a":true'),
        text_after_success(b'"a":NaN'),
        text_after_success(b'"a":-Infinity'),
        text_after_success(b'"a":' + b"9" * 5000),
        text_after_success(b'"a":' + b"[" * 20000 + b"]" * 20000),
        b'{"a":' * 10000 + b"1" + b"}" * 10000,
        SUCCESS + SUCCESS,
        SUCCESS + b"\x00",
        b"\xef\xbb\xbf" + SUCCESS,
        SUCCESS.decode().encode("utf-16-le"),
        text_after_success(b'"a":"\xff"'),
        b"[" + SUCCESS + b"]",
        b'{"data":' + SUCCESS + b"}",
        b'"SUCCESS"',
        b" ",
        b'{"status":["success"],"code":["SUCCESS"]}',
        b'{"status":{"a":1},"code":{"b":2},"error":"x"}',
        *(SUCCESS[:length] for length in range(len(SUCCESS))),
    ],
)
def test_almost_success(body: bytes) -> None:
    """What only looks like success, or is a part of it, is held; the run stops at the third in a row."""
    assert found(judged(200, body)) == verdict("hold")


def throttle(text: str) -> bytes:
    """Return the throttle of the security filter that Zoho products share."""
    details = {"message": f"Cannot execute more than 100 requests per API in 2 minutes. {text}"}
    return json.dumps({"error": {"title": "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED", "details": details}}).encode()


MONDAY = {"retry_after": "Mon, 23 Nov 2026 10:02:00 GMT", "date": "Mon, 23 Nov 2026 10:00:00 GMT"}
IN_22_MINUTES = throttle("Try again after 22 minutes.")


@pytest.mark.fault(74, 78)
@table(
    ("status", "body", "headers", "wait_seconds"),
    [
        (429, b"", {"retry_after": "120"}, 120.0),
        (429, b"", {"retry_after": "0"}, 1.0),
        (429, b"", {"retry_after": "1" + "0" * 20}, 21600.0),
        (429, b"", {"retry_after": "-5"}, None),
        (429, b"", {"retry_after": "soon"}, None),
        (429, b"", {}, None),
        (429, b"<html>", {"retry_after": "5"}, 5.0),
        (429, b"", MONDAY, 120.0),
        (400, IN_22_MINUTES, {}, 1320.0),
        (200, IN_22_MINUTES, {}, 1320.0),
        (429, throttle("try again after 30 seconds"), {}, 30.0),
        (400, throttle("Try again after 900 hours"), {}, 21600.0),
        (400, throttle("Try again later"), {}, None),
        (400, IN_22_MINUTES, {"retry_after": "9"}, 9.0),
        (400, b'{"code":"request_limit_exceeded","message":"Try again after 2 minutes"}', {}, 120.0),
        (400, b'{"code":"request_limit_exceeded","message":"You have exceeded the limits."}', {}, None),
        (503, b"", {"retry_after": "10"}, 10.0),
        (503, b"<html>", {"retry_after": "10"}, 10.0),
    ],
)
def test_wait(status: int, body: bytes, headers: dict[str, str], wait_seconds: float | None) -> None:
    """A throttle, in whatever dialect, waits as long as header or text ask."""
    judgement = judged(status, body, **headers)
    assert (found(judgement), judgement.wait_seconds) == (verdict("wait"), wait_seconds)


def test_wait_only_where_waiting() -> None:
    """A Retry-After on an answer that is no throttle is not a wait."""
    assert judged(404, b"", retry_after="10").wait_seconds is None


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


def test_tables_agree() -> None:
    """A status whose body decides has no line of its own."""
    assert not BODY_DECIDES & (set(STATUSES) | NEEDS_NO_BODY)


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
SENT_AS_THEY_ARE = [
    *product((200,), ("documented success", "success in capitals", "unknown code", "page", "nothing", "cut")),
    *product((201, 202), ("documented success", "page")),
    *product((203, 206, 300, 301, 302, 303, 304), ("page",)),
    *product((307, 308), ("documented success", "page")),
    *product((400, 403, 404, 413), ("documented success", "unknown code", "page")),
    *product((402, 405, 406, 407, 409, 410, 411, 415, 417, 426, 431, 451, 501, 505), ("page",)),
    *product((500, 502, 503, 504, 520, 599), ("page", "documented success")),
    (200, "success with something behind it"),
    (200, "a key twice"),
    (200, "oversized"),
    (200, "encoded"),
]
"""Answers played over the wire; those that are waited or tried again for are played with a clock elsewhere."""


ALWAYS_PLAYED = {200, 201, 302, 307, 400, 403, 404, 500, 503}
"""Statuses whose answers are played over the wire in every run; those of the others with -m slow."""


@pytest.mark.fault(73, 81, 82, 83)
@pytest.mark.parametrize(
    ("status", "name"),
    [
        pytest.param(*answer, marks=() if answer[0] in ALWAYS_PLAYED else pytest.mark.slow)
        for answer in SENT_AS_THEY_ARE
    ],
)
def test_over_the_wire(program: Program, account: Simulator, tmp_path: Path, status: int, name: str) -> None:
    """An answer from a socket puts the call where the table says, with one post, one row, and the exit code."""
    column, body = BODIES[name]
    proof, reaction, exit_code, _ = expected(status, column)
    headers = [("Content-Type", "application/json"), ("Location", f"{account.base_url}/elsewhere")]
    if column == "encoded":
        headers.append(("Content-Encoding", "gzip"))
    account.script(Fault(status=status, headers=tuple(headers), body=b"" if status == 304 else body))
    path = write_export(tmp_path / "export.csv", [call_row(1)])

    ran = program("import", "--init-ledger", "--results", tmp_path / "out.csv", path)

    state = STATE_OF[proof]
    assert ran.code == (exit_code if reaction == "stop" else CODE_OF_STATE[state])
    assert [(row["outcome"], row["http_status"]) for row in read_results(tmp_path / "out.csv")] == [
        (state, str(status))
    ]
    assert {path: len(requests) for path, requests in account.arrived.items()} == {CALLS: 1, TOKENS: 1}
    assert not re.search(r"5550\d{3}|Zoho-oauthtoken|sandbox-secret", ran.stdout + ran.stderr)
