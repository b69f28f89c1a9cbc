"""The judge itself: each rule is broken by a history that breaks just it."""

from dataclasses import replace

from conftest import table
from judge.answers import Meaning, meaning_of
from judge.checker import violations
from judge.history import Death, Held, History, Post, Record, Results, Row

TAKEN, REFUSED, NOT_APPLIED, NOTHING = Meaning.TAKEN, Meaning.REFUSED, Meaning.NOT_APPLIED, Meaning.NOTHING
ONE = (("from", "+12125550101"), ("start_time", "2026-03-02 14:00:00"), ("state", "busy"), ("to", "+12125550102"))
AS_ROW = ("busy", "+12125550101", "+12125550102", "2026-03-02 14:00:00")


def post(meaning: Meaning, moment: float = 1.0) -> Post:
    """Return a request for the call `a`."""
    return Post(moment, "a", ONE, meaning)


def held(state: str, reason: str = "") -> Held:
    """Return the call `a` as an honest ledger holds it in that state."""
    return Held("a", state, reason, has_payload=state in ("pending", "sending", "uncertain"))


def history(state: str, *posts: Post, reason: str = "", records: tuple[Record, ...] = ()) -> History:
    """Return a history of the call `a`."""
    return History(posts=posts, ledger={"a": held(state, reason)}, records=records)


def said(kind: str, moment: float = 2.0) -> tuple[Record, ...]:
    """Return what an operator said of the call `a`."""
    return (Record(moment, "a", kind),)


HONEST = {
    "nothing at all": History(),
    "never sent": history("pending"),
    "accepted": history("accepted", post(TAKEN)),
    "throttled, then accepted": history("accepted", post(NOT_APPLIED), post(TAKEN, 2)),
    "throttled": history("pending", post(NOT_APPLIED)),
    "refused": history("refused", post(REFUSED)),
    "refused, retried": history("accepted", post(REFUSED), post(TAKEN, 3), records=said("retry")),
    "refused, mended": history("pending", post(REFUSED), records=said("new_content")),
    "answer lost": history("uncertain", post(NOTHING), reason="reset"),
    "answer lost, sent": history("accepted", post(NOTHING), records=said("sent")),
    "answer lost, not sent": history("pending", post(NOTHING), records=said("not_sent")),
    "answer lost, closed": history("closed", post(NOTHING), records=said("close")),
    "sent twice on a word": history("accepted", post(NOTHING), post(TAKEN, 3), records=said("resend")),
    "accepted, purged": History(posts=(post(TAKEN),), records=said("purged")),
    "refused again by a backup": history(
        "refused", post(REFUSED), post(TAKEN, 3), records=(*said("retry"), *said("restored", 4))
    ),
    "accepted, doubted by a backup": history(
        "uncertain", post(TAKEN), reason="restored", records=said("restored")
    ),
    "throttled, forgotten": history("closed", post(NOT_APPLIED), records=said("forgotten")),
    "throttled, then attended": history("closed", post(NOT_APPLIED), records=said("attended")),
    "accepted, then attended": history(
        "accepted", post(TAKEN), records=(*said("attended"), *said("corrected", 3))
    ),
    "attended, doubted by a backup": history(
        "accepted", post(NOT_APPLIED), post(TAKEN, 5), records=(*said("attended"), *said("restored", 3))
    ),
    "killed after the answer": replace(history("uncertain", post(TAKEN), reason="crash"), deaths=(Death(1.5),)),
    "killed before the first byte": replace(history("uncertain", reason="crash"), deaths=(Death(1.5),)),
    "killed, not recovered": replace(history("sending", post(TAKEN)), is_recovered=False),
    "reset before the body": replace(history("uncertain", reason="reset"), posts=(Post(1.0, "", complete=False),)),
}

BROKEN = {
    "sent again after success": ((1, 2), history("accepted", post(TAKEN), post(TAKEN, 2))),
    "sent again, answer lost": ((1,), history("uncertain", post(NOTHING), post(NOTHING, 2), reason="reset")),
    "sent again after a refusal": ((1,), history("refused", post(REFUSED), post(REFUSED, 2))),
    "sent once more than said": (
        (1,),
        history("uncertain", post(NOTHING), post(NOTHING, 3), post(NOTHING, 4), records=said("resend")),
    ),
    "sent after it was closed": (
        (1, 1),
        history("closed", post(NOTHING), post(NOTHING, 3), records=said("close")),
    ),
    "sent after it was forgotten": (
        (1,),
        history("closed", post(NOT_APPLIED), post(NOT_APPLIED, 3), records=said("forgotten")),
    ),
    "sent after it was attended": (
        (1,),
        history("accepted", post(NOT_APPLIED), post(TAKEN, 3), records=said("attended")),
    ),
    "sent after it was corrected": (
        (1, 1, 2),
        history("accepted", post(TAKEN), post(TAKEN, 3), records=said("corrected")),
    ),
    "as if nobody were needed": (
        (7,),
        replace(history("uncertain", post(NOTHING), reason="reset"), left_uncertain=((4, 1), (3, 1))),
    ),
    "pending after a backup": ((3,), history("pending", post(TAKEN), records=said("restored"))),
    "accepted out of nothing": ((2,), history("accepted")),
    "accepted after a throttle": ((2,), history("accepted", post(NOT_APPLIED))),
    "closed by nobody": ((2,), history("closed")),
    "pending after success": ((3,), history("pending", post(TAKEN))),
    "in flight after the end": ((3,), history("sending")),
    "refused after a throttle": ((4,), history("refused", post(NOT_APPLIED))),
    "accepted after a lost answer": ((5,), history("accepted", post(NOTHING))),
    "pending after a lost answer": ((5,), history("pending", post(NOTHING))),
    "refused after a lost answer": ((5,), history("refused", post(NOTHING))),
    "sent and forgotten": ((6,), History(posts=(post(TAKEN),))),
    "taken in and forgotten": ((6,), History(staged=frozenset({"a"}))),
    "uncertain for no reason": ((7, 7), history("uncertain", post(TAKEN), reason="reset")),
    "more uncertain than kills": ((7,), history("uncertain", reason="crash")),
    "damaged": ((8,), History(integrity="row 3 missing")),
    "payload of an open call lost": ((8,), History(ledger={"a": Held("a", "pending", "", has_payload=False)})),
    "payload of a settled call kept": (
        (8,),
        replace(history("accepted", post(TAKEN)), ledger={"a": Held("a", "accepted")}),
    ),
    "number printed": ((9,), History(outputs={"stderr": b"to +12125550102"}, numbers=("+12125550102",))),
    "secret printed": ((9,), History(outputs={"stderr": b"with hush"}, canaries=("hush",))),
    "secret written": ((9,), History(files={"ledger": b"with hush"}, canaries=("hush",))),
}


@table("name", HONEST)
def test_honest_history(name: str) -> None:
    """What delivery promises is no breach."""
    assert violations(HONEST[name]) == []


@table("name", BROKEN)
def test_broken_rule(name: str) -> None:
    """A history that breaks one rule is told under that rule, and under no other."""
    rules, told = BROKEN[name]
    assert [sentence.split(":")[0] for sentence in violations(told)] == [f"rule {rule}" for rule in rules]


def results(*rows: Row, state: str = "accepted", meaning: Meaning = TAKEN) -> History:
    """Return a history whose one run had an input of one row, with these results."""
    one = Results("r1", rows, input=[("f.csv", 2)])
    return replace(history(state, post(meaning)), results=(one,))


def test_rows_of_results() -> None:
    """A row of the input that stands in the results once, with what happened to it, is no breach."""
    assert violations(results(Row("f.csv", 2, "a", "accepted", AS_ROW))) == []
    other = results(Row("f.csv", 2, "a", "already_accepted", ("busy", "", "", "")))
    assert violations(replace(other, records=said("restored"))) == []


@table(
    ("told", "wanted"),
    [
        (results(), "line 2 0 times"),
        (results(Row("f.csv", 2, "a", "accepted"), Row("f.csv", 2, "b", "pending")), "line 2 2 times"),
        (results(Row("f.csv", 2, "a", "would_send")), "no outcome"),
        (results(Row("f.csv", 2, "a", "accepted"), state="refused", meaning=REFUSED), "never took it"),
        (results(Row("f.csv", 2, "a", "already_accepted", ("busy", "", "", ""))), "content that was not sent"),
        (results(Row("f.csv", 2, "a", "accepted"), Row("", 0, "a", "accepted")), "accepted 2 times"),
    ],
)
def test_false_results(told: History, wanted: str) -> None:
    """Results that lose a row, tell it twice or tell what was not so are a breach of rule 6."""
    (sentence,) = violations(told)
    assert sentence.startswith("rule 6") and wanted in sentence


@table(
    ("rows", "breaches"),
    [
        ([Row("g.csv", 3, "a", "conflict")], 0),
        ([], 1),
        ([Row("g.csv", 3, "a", "skipped")], 1),
        ([Row("g.csv", 3, "a", "conflict"), Row("g.csv", 3, "a", "conflict")], 1),
        ([Row("g.csv", 3, "a", "conflict"), Row("g.csv", 4, "b", "skipped")], 1),
    ],
)
def test_rows_that_show_a_call_attended(rows: list[Row], breaches: int) -> None:
    """A row that shows a call attended stands in the results once as what it means, and not at all without one."""
    one = Results("r1", rows, attended={("g.csv", 3): "conflict", ("g.csv", 4): ""})
    found = violations(replace(history("accepted", post(TAKEN)), results=(one,)))
    assert [sentence.split(":")[0] for sentence in found] == ["rule 6"] * breaches


def test_internal_error_is_a_breach() -> None:
    """A run that ended as a bug of ours is told, whatever it left."""
    assert violations(History(exit_codes=(0, 70))) == ["bug: a run ended with exit 70, internal error"]


def answer(status: int, body: str, *headers: str, length: int | None = None) -> bytes:
    """Return the bytes of an answer."""
    size = len(body) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {size}", *headers, "", body]).encode()


SUCCESS = '{"status":"success","code":"SUCCESS"}'


@table(
    ("sent", "meaning"),
    [
        (answer(200, SUCCESS), TAKEN),
        (answer(200, SUCCESS)[:-1], NOTHING),
        (answer(201, SUCCESS), NOTHING),
        (answer(200, '{"status":"success"}'), NOTHING),
        (answer(200, "{}"), NOTHING),
        (answer(200, "<html>"), NOTHING),
        (b"", NOTHING),
        (b"HTTP/1.1 200 OK\r\nContent-Le", NOTHING),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(200, SUCCESS), NOTHING),
        (answer(302, ""), NOTHING),
        (answer(500, '{"code":"INTERNAL_ERROR"}'), NOTHING),
        (answer(502, "<html>"), NOTHING),
        (answer(409, ""), NOTHING),
        (answer(400, '{"code":"INVALID_DATA"}'), REFUSED),
        (answer(400, '{"code":"INVALID_TOKEN"}'), NOT_APPLIED),
        (answer(400, '{"error":{"title":"URL_ROLLING_THROTTLES_LIMIT_EXCEEDED"}}'), NOT_APPLIED),
        (answer(401, "", length=9), NOT_APPLIED),
        (answer(429, ""), NOT_APPLIED),
        (answer(503, ""), NOTHING),
        (answer(503, "", "Retry-After: 3"), NOT_APPLIED),
        (answer(307, ""), NOT_APPLIED),
    ],
)
def test_meaning_of_an_answer(sent: bytes, meaning: Meaning) -> None:
    """Only a whole, strict answer proves anything."""
    assert meaning_of(sent) is meaning
