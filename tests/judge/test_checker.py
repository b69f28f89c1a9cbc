"""The judge itself: each rule is broken by a history that breaks just it."""

from dataclasses import replace

from conftest import cases, table
from judge.answers import Meaning, meaning_of
from judge.checker import violations
from judge.history import Death, Held, History, Post, Record, Results, Row
from misbehaviour.connections import http_answer

TAKEN, REFUSED, NOT_APPLIED, NOTHING = Meaning.TAKEN, Meaning.REFUSED, Meaning.NOT_APPLIED, Meaning.NOTHING
ONE = (("from", "+12125550101"), ("start_time", "2026-03-02 14:00:00"), ("state", "busy"), ("to", "+12125550102"))
AS_ROW = ("busy", "+12125550101", "+12125550102", "2026-03-02 14:00:00")


def history(state: str, *answers: Meaning | None, reason: str = "", said: str = "") -> History:
    """Return a history of the call `a`: requests at moments 1, 3, 5, what an operator said of it at 2, 4."""
    posts = [Post(2 * number + 1, "a", ONE, each) for number, each in enumerate(answers) if each]
    records = [Record(2 * number, "a", kind) for number, kind in enumerate(said.split(), start=1)]
    held = Held("a", state, reason, has_payload=state in ("pending", "sending", "uncertain"))
    return History(posts=posts, ledger={"a": held} if state else {}, records=records)


HONEST = {
    "nothing at all": History(),
    "killed after the answer": replace(history("uncertain", TAKEN, reason="crash"), deaths=(Death(1.5),)),
    "killed before the first byte": replace(history("uncertain", reason="crash"), deaths=(Death(1.5),)),
    "killed, not recovered": replace(history("sending", TAKEN), is_recovered=False),
    "reset before the body": replace(history("uncertain", reason="reset"), posts=(Post(1.0, "", complete=False),)),
}
KEPT = {"a": Held("a", "accepted")}
LEFT_UNCERTAIN = replace(history("uncertain", NOTHING, reason="reset"), left_uncertain=((4, 1), (3, 1)))
BROKEN = {
    "as if nobody were needed": ((7,), LEFT_UNCERTAIN),
    "taken in and forgotten": ((6,), History(staged=frozenset({"a"}))),
    "damaged": ((8,), History(integrity="row 3 missing")),
    "payload of an open call lost": ((8,), History(ledger={"a": Held("a", "pending", "", has_payload=False)})),
    "payload of a settled call kept": ((8,), replace(history("accepted", TAKEN), ledger=KEPT)),
    "internal error": (("bug",), History(exit_codes=(0, 70))),
    "number printed": ((9,), History(outputs={"stderr": b"to +12125550102"}, numbers=("+12125550102",))),
    "secret printed": ((9,), History(outputs={"stderr": b"with hush"}, canaries=("hush",))),
    "secret written": ((9,), History(files={"ledger": b"with hush"}, canaries=("hush",))),
}


IN_WORDS = [
    (rules, history(state, *(Meaning(each) if each else None for each in answers), reason=reason, said=said))
    for rules, state, answers, reason, said in cases("checker")["histories"]
]


@table(("rules", "told"), [*(((), each) for each in HONEST.values()), *BROKEN.values(), *IN_WORDS])
def test_history(rules: tuple[int | str, ...], told: History) -> None:
    """What delivery promises is no breach; a history that breaks one rule is told under that rule and no other."""
    assert [sentence.split(":")[0].removeprefix("rule ") for sentence in violations(told)] == [*map(str, rules)]


def results(*rows: Row, state: str = "accepted", meaning: Meaning = TAKEN, said: str = "") -> History:
    """Return a history whose one run had an input of one row, with these results."""
    one = Results("r1", rows, input=[("f.csv", 2)])
    return replace(history(state, meaning, said=said), results=(one,))


ATTENDED = Row("g.csv", 3, "a", "conflict")
TOLD_ELSE = Row("f.csv", 2, "a", "already_accepted", ("busy", "", "", ""))


@table(
    ("told", "wanted"),
    [
        (results(Row("f.csv", 2, "a", "accepted", AS_ROW)), ""),
        (results(TOLD_ELSE, said="restored"), ""),
        (results(TOLD_ELSE), "content that was not sent"),
        (results(), "line 2 0 times"),
        (results(Row("f.csv", 2, "a", "accepted"), Row("f.csv", 2, "b", "pending")), "line 2 2 times"),
        (results(Row("f.csv", 2, "a", "would_send")), "no outcome"),
        (results(Row("f.csv", 2, "a", "accepted"), state="refused", meaning=REFUSED), "never took it"),
        (results(Row("f.csv", 2, "a", "accepted"), Row("", 0, "a", "accepted")), "accepted 2 times"),
    ],
)
def test_results(told: History, wanted: str) -> None:
    """Results that lose a row, tell it twice or tell what was not so are a breach of rule 6."""
    found = violations(told)
    assert len(found) == bool(wanted)
    assert all(each.startswith("rule 6") and wanted in each for each in found)


@table(
    ("rows", "breaches"),
    [
        ([ATTENDED], 0),
        ([], 1),
        ([replace(ATTENDED, outcome="skipped")], 1),
        ([ATTENDED, ATTENDED], 1),
        ([ATTENDED, Row("g.csv", 4, "b", "skipped")], 1),
    ],
)
def test_rows_that_show_a_call_attended(rows: list[Row], breaches: int) -> None:
    """A row that shows a call attended stands in the results once as what it means, and not at all without one."""
    one = Results("r1", rows, attended={("g.csv", 3): "conflict", ("g.csv", 4): ""})
    found = violations(replace(history("accepted", TAKEN), results=(one,)))
    assert [sentence.split(":")[0] for sentence in found] == ["rule 6"] * breaches


def answer(status: int, body: str = "", **headers: str) -> bytes:
    """Return the bytes of an answer."""
    return http_answer(f"{status} X", body.encode(), **headers)


@table(
    ("sent", "meaning"),
    [
        (http_answer(), TAKEN),
        (http_answer()[:-1], NOTHING),
        (http_answer("201 X"), NOTHING),
        (answer(200, '{"status":"success"}'), NOTHING),
        (answer(200, "<html>"), NOTHING),
        (b"", NOTHING),
        (b"HTTP/1.1 200 OK\r\nContent-Le", NOTHING),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + http_answer(), NOTHING),
        (answer(409), NOTHING),
        (answer(400, '{"code":"INVALID_DATA"}'), REFUSED),
        (answer(400, '{"code":"INVALID_TOKEN"}'), NOT_APPLIED),
        (answer(400, '{"error":{"title":"URL_ROLLING_THROTTLES_LIMIT_EXCEEDED"}}'), NOT_APPLIED),
        (answer(401, "x")[:-1], NOT_APPLIED),
        (answer(503), NOTHING),
        (answer(503, Retry_After="3"), NOT_APPLIED),
    ],
)
def test_meaning_of_an_answer(sent: bytes, meaning: Meaning) -> None:
    """Only a whole, strict answer proves anything."""
    assert meaning_of(sent) is meaning
