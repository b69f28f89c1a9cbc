"""Sections C, E and I: what sign-in and service answer, how calls go out under it, and by which clocks."""

import errno
import os
import time
import tracemalloc
from dataclasses import asdict, dataclass, field
from datetime import datetime
from email.utils import formatdate

import pytest

from conftest import Serve, closed_port, wait_until
from faults.night import NOW_EPOCH_SECONDS, PATIENT, Night, ids_in
from importer.auth import SignIn
from importer.client.api import TokenTransport
from importer.errors import CannotCreateError
from importer.ledger.reader import open_reader
from importer.pipeline.sending import UNANSWERED_IN_A_ROW
from importer.records import Timeouts
from importer.settings.values import Limit, Rate
from misbehaviour import FOREVER, ORDINARY, TOKENS, Fault
from misbehaviour.connections import Behaviour, Peer, answering, http_answer
from steps import Step, at

MOST_MEMORY_BYTES = 4_000_000
ONE_GIGABYTE = 1_000_000_000


# what is answered, and how the run ends -----------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """What API and token endpoint answer, and what comes of it.

    ``why`` is exit code and reason; ``posts`` are numbers of calls, None where workers send in any order; ``then``
    are the states after a run an hour later.
    """

    script: tuple[Fault, ...]
    why: tuple[int, str]
    states: dict[str, int]
    posts: list[int] | None
    tokens: tuple[Fault, ...] = ()
    token_requests: int = 1
    words: str = ""
    options: dict[str, object] = field(default_factory=dict)
    connections: int | None = None
    then: dict[str, int] | None = None


IMPATIENT = Timeouts(connect_seconds=5, gap_seconds=0.05, deadline_seconds=10)
ODD = Fault(status=200, body=b'{"status":"strange","code":"ODD"}')
NOT_APPLIED, FAILS = Fault(status=425), Fault.refusal("INTERNAL_ERROR", 500)
DENIED = {"error": "Access Denied", "error_description": "You have made too many requests", "status": "failure"}
REVOKED = Fault.json(200, {"error": "invalid_grant"})
BAD_TOKEN = Fault.refusal("INVALID_TOKEN", 401).repeated(FOREVER)
NO_PERMISSION = Fault.refusal("NO_PERMISSION", 403).repeated(FOREVER)
NEW = Fault.refusal("SOMETHING_NEW").repeated(FOREVER)
BREAKER = [call for call in range(UNANSWERED_IN_A_ROW) for _ in range(4)]
MAINTENANCE = Fault(status=503, headers=(("Retry-After", "3600"),))
THREE_REFUSED = tuple(each for n in range(4) for each in (Fault.refusal(f"CODE_{n}"), ORDINARY.repeated(2)))
DONE, LATER, PENDING, UNCERTAIN = (0, "done"), (69, "unreachable"), (69, "pending"), (4, "uncertain")


def expired(status: int, calls: int = 6, workers: int = 1) -> Case:
    """Return that a token expires in mid-run: one request and one refresh more, also under many workers."""
    script, posts = (ORDINARY.repeated(3), Fault.expired_token(status)), [0, 1, 2, 3, 3, 4, 5]
    return Case(
        *(script, DONE, {"accepted": calls}, posts if workers == 1 else None),
        token_requests=2,
        options={"workers": workers},
    )


def no_token(code: int, reason: str, asked: int, *answers: Fault, words: str = "") -> Case:
    """Return that the token endpoint answers so, the last answer for ever, and is asked so many times."""
    answers = (*answers[:-1], answers[-1].repeated(FOREVER))
    limits = IMPATIENT if answers[0].hang else PATIENT
    return Case((), (code, reason), {"pending": 3}, [], answers, asked, words, {"limits": limits})


def outage(*before: Fault, fault: Fault, states: dict[str, int]) -> Case:
    """Return that the second server error in a row ends the run, with the exit code of the uncertain calls."""
    posts = [*range(6 - states["pending"])]
    return Case((*before, fault.repeated(FOREVER)), UNCERTAIN, states, posts, words="failed")


def most_errors(limit: str, why: str, refused: int, accepted: int) -> Case:
    """Return that every third of twelve calls is refused, with this limit of errors."""
    states = {"refused": refused, "accepted": accepted, "pending": 12 - refused - accepted}
    states = {state: count for state, count in states.items() if count}
    posts = [*range(refused + accepted)]
    return Case(THREE_REFUSED, (3, why), states, posts, options={"max_errors": Limit.parse(limit)})


LOST, HEALED = {"uncertain": 2, "pending": 4}, {"uncertain": 3, "accepted": 1, "pending": 2}
ONE_SENT, ONE_OF_TWO = {"accepted": 1, "pending": 3}, {"pending": 1, "accepted": 1}
CASES: dict[str, Case] = {
    "token expires, 401": expired(401),
    "token expires, 400": expired(400),
    "token expires under workers": expired(401, calls=12, workers=4),
    "new token refused": Case((ORDINARY, BAD_TOKEN), (77, "token_refused"), ONE_SENT, [0, 1, 1], (), 2),
    "sign-in revoked": Case(
        *((ORDINARY, Fault.expired_token()), (77, "not_permitted"), ONE_SENT, [0, 1], (ORDINARY, REVOKED), 2),
        words="cdr-importer auth",
    ),
    "token endpoint goes down": Case(
        *((ORDINARY.repeated(2), Fault.expired_token()), (69, "unavailable"), {"accepted": 2, "pending": 3}),
        *([0, 1, 2], (ORDINARY, Fault(status=503).repeated(3)), 4),
        then={"accepted": 5},
    ),
    "permission lost": Case(
        (ORDINARY.repeated(2), NO_PERMISSION), (77, "not_permitted"), {"accepted": 2, "pending": 3}, [0, 1, 2]
    ),
    "wrong data centre": Case(
        (Fault(status=404),), (78, "wrong_address"), {"pending": 3}, [0], words="data-center"
    ),
    "sign-in refused": no_token(
        77, "not_permitted", 1, Fault.json(200, {"error": "invalid_code"}), words="data-center"
    ),
    "client refused": no_token(
        77, "not_permitted", 1, Fault.json(200, {"error": "invalid_client"}), words="data-center"
    ),
    "too many tokens": no_token(75, "try_later", 1, Fault.json(400, DENIED), words="Wait 10 minutes"),
    "token endpoint hangs": no_token(69, "unavailable", 3, Fault(hang=True)),
    "token endpoint resets": no_token(69, "unavailable", 3, Fault(reset_after_reading=True)),
    "token a page": no_token(
        *(76, "protocol", 3), Fault.login_page(), Fault.cut_answer(), Fault(raw_answer=b"SSH-2.0-x\r\n")
    ),
    "token redirected": no_token(
        76, "protocol", 1, Fault(status=307, headers=(("Location", "http://127.0.0.1:1/"),))
    ),
    "token of a megabyte": no_token(76, "protocol", 3, Fault(changes={"access_token": "x" * 1_000_000})),
    "outage, 500": outage(FAILS, fault=FAILS, states=LOST),
    "healed, then 502": outage(FAILS, ORDINARY, fault=Fault(status=502), states=HEALED),
    "unknown refusal": Case((NEW,), (76, "refused_by_service"), {"refused": 3, "pending": 3}, [0, 1, 2]),
    "unknown code": Case(
        (ODD.repeated(FOREVER),), (76, "unknown_code"), {"uncertain": 3, "pending": 3}, [0, 1, 2]
    ),
    "several reasons": Case(
        (ODD, ORDINARY, Fault.lost_answer(), ORDINARY, Fault(status=409)),
        *((4, "max_uncertain"), {"pending": 4, "accepted": 2, "uncertain": 3}, [0, 1, 2, 3, 4]),
    ),
    "two errors": most_errors("2", "max_errors", refused=2, accepted=2),
    "one error": most_errors("1", "max_errors", refused=1, accepted=0),
    "half of them errors": most_errors("50%", "refused", refused=4, accepted=8),
    "tries run out": Case((NOT_APPLIED.repeated(4),), PENDING, ONE_OF_TWO, [0, 0, 0, 0, 1]),
    "breaker opens": Case((NOT_APPLIED.repeated(FOREVER),), LATER, {"pending": 20}, BREAKER),
    # These are tried once more over another connection; the first of all is that of the sign-in.
    "408": Case((Fault(status=408).repeated(2),), PENDING, ONE_OF_TWO, [0, 0, 1], connections=4),
    "421": Case((Fault(status=421).repeated(2),), (78, "misdirected"), {"pending": 2}, [0, 0], connections=3),
    "maintenance, with a wait": Case(
        *((ORDINARY.repeated(20), MAINTENANCE), (75, "overloaded"), {"accepted": 20, "pending": 10}),
        *([*range(21)],),
        then={"accepted": 30},
    ),
    "maintenance": Case(
        *((ORDINARY.repeated(20), Fault(status=503).repeated(2)), UNCERTAIN),
        *({"accepted": 20, "pending": 8, "uncertain": 2}, [*range(22)]),
        then={"accepted": 28, "uncertain": 2},
    ),
}


@pytest.mark.fault(39, 40, 41, 42, 43, 44, 45, 48, 73, 76, 77, 80, 89, 141)
@pytest.mark.parametrize("name", CASES)
def test_run(night: Night, name: str) -> None:
    """What is answered decides how the run ends, where calls stand, how often each was sent, and what is said."""
    case = CASES[name]
    night.take_in(sum(case.states.values()))
    night.api.script(*case.script)
    night.api.script(*case.tokens, path=TOKENS)
    ended = night.run(**case.options)  # type: ignore[arg-type]
    assert (ended.why, night.states()) == (case.why, case.states)
    assert case.posts is None or night.posts() == [f"call{number:03}" for number in case.posts]
    assert case.connections in (None, night.api.connections)
    assert night.api.token_requests == case.token_requests
    assert case.words in " ".join(ended.notes)
    if case.then:
        night.time.now += 3700
        assert (night.run().code, night.states()) == (4 if "uncertain" in case.then else 0, case.then)
    assert night.taken_once()


# the sign-in -------------------------------------------------------------------------------------------------
@pytest.mark.fault(49)
def test_another_host_with_the_same_refresh_token(night: Night) -> None:
    """A token that a sign-in elsewhere has killed costs one refresh; every call is accepted once."""
    night.take_in(6)
    night.api.service.most_active = 1
    url, own = night.api.base_url, night.api.credentials
    elsewhere, form = TokenTransport(SignIn(url, own)), {"grant_type": "refresh_token", **asdict(own)}
    ended = night.run(step=at(Step.SETTLED, 3, lambda: elsewhere(f"{url}/oauth/v2/token", form)))
    assert (ended.why, night.states()) == ((0, "done"), {"accepted": 6})
    assert (night.api.token_requests, len(night.api.arrivals)) == (3, 7)
    assert night.taken_once()


@pytest.mark.fault(46)
def test_another_api_host_is_named(night: Night, serve: Serve) -> None:
    """An API host that is none of Zoho's gets neither token nor call, not even a connection: 78."""
    night.take_in(2)
    other = serve(answering(http_answer()))
    night.api.script(Fault(changes={"api_domain": other.base_url}), path=TOKENS)
    ended = night.run(api_url=None)
    assert (ended.code, night.states(), other.connections) == (78, {"pending": 2}, 0)
    assert "API host" in ended.notes[-1]


@pytest.mark.fault(93)
def test_second_signal_cuts_the_sign_in(night: Night) -> None:
    """A second signal does not wait for the token endpoint: everything is pending, and no other try is made."""
    night.take_in(2)
    night.api.script(Fault(delay_seconds=2), path=TOKENS)
    ended = night.run(is_cut=lambda: night.api.token_requests > 0)
    asked = night.api.arrived[TOKENS]
    assert (ended.why, night.states(), night.api.arrivals) == ((143, "signal"), {"pending": 2}, ())
    assert [arrival.status for arrival in asked] == [None]


@pytest.mark.fault(44, 51)
@pytest.mark.parametrize("workers", [1, 3])
def test_nobody_there(night: Night, workers: int) -> None:
    """Where nobody listens all is pending: 69, of the API after a few calls in a row, of the sign-in at once."""
    night.take_in(20)
    nowhere = f"http://127.0.0.1:{closed_port()}"
    ended = night.run(workers=workers, accounts_url=nowhere)
    assert (ended.code, night.states(), night.api.token_requests) == (69, {"pending": 20}, 0)
    ended = night.run(workers=workers, api_url=nowhere)
    assert (ended.why, night.states()) == ((69, "unreachable"), {"pending": 20})
    tried = sum(row["reason"] == "refused" for row in ended.rows)
    assert UNANSWERED_IN_A_ROW <= tried <= UNANSWERED_IN_A_ROW + workers


# order, limits, workers --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("count", "workers", "limit"), [(0, 1, None), (7, 1, None), (40, 4, None), (5, 1, 1), (5, 4, 3), (5, 1, 5)]
)
def test_each_is_sent_once(night: Night, count: int, workers: int, limit: int | None) -> None:
    """Over small batches each call up to a limit goes once, by one worker oldest first; none costs no sign-in."""
    night.take_in(count)
    ended = night.run(batch_size=2, workers=workers, limit=limit)
    ids = [f"call{number:03}" for number in range(count)][:limit]
    assert (ended.why, [row["call_id"] for row in ended.rows]) == ((0, "done"), ids)
    assert (night.posts() if workers == 1 else sorted(night.posts())) == ids
    assert (night.states().get("accepted", 0), night.api.token_requests) == (len(ids), min(len(ids), 1))


def test_what_was_not_applied_is_tried_again(night: Night) -> None:
    """A request proved not applied is repeated after a second and after two at most, and counted."""
    night.take_in(1)
    night.api.script(NOT_APPLIED.repeated(2))
    told = [(row["outcome"], row["attempts"]) for row in night.run().rows]
    first, second, third = (arrival.moment for arrival in night.api.arrivals)
    assert told == [("accepted", "3")]
    assert 0 < second - first <= 1.5
    assert 0 < third - second <= 2.5


def test_results_that_cannot_take_a_batch(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose rows cannot be made safe is not sent; what was in flight is recorded, the failure raised."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill() -> None:
        wait_until(lambda: len(night.api.arrivals) == 2)
        monkeypatch.setattr(os, "fsync", full)

    night.take_in(6)
    with pytest.raises(CannotCreateError):
        night.run(batch_size=2, workers=2, step=at(Step.NOTED, 1, fill))
    assert (night.states(), len(night.api.arrivals)) == ({"accepted": 2, "pending": 4}, 2)


# throttles and outages ---------------------------------------------------------------------------------------
def throttled(retry_after: str) -> Fault:
    """Return 429 with a Retry-After of any text."""
    return Fault(status=429, headers=(("Retry-After", retry_after),))


@pytest.mark.fault(74)
def test_throttles_are_waited_out(night: Night) -> None:
    """429 is waited out as long as it asks, or 30 s where it asks nothing usable, and a tenth more at most."""
    asked = {
        formatdate(NOW_EPOCH_SECONDS + 90, usegmt=True): 90,
        formatdate(NOW_EPOCH_SECONDS - 90, usegmt=True): 1,
        "7": 7,
        "soon": 30,
        "-5": 30,
    }
    night.take_in(len(asked))
    for retry_after in asked:
        night.api.script(throttled(retry_after), ORDINARY)
    ended = night.run()
    moments = [arrival.moment for arrival in night.api.arrivals]
    waits = [after - before for before, after in zip(moments[::2], moments[1::2], strict=True)]
    assert (ended.why, night.states()) == ((0, "done"), {"accepted": len(asked)})
    assert all(
        seconds <= wait <= seconds * 1.1 + 1 for seconds, wait in zip(asked.values(), waits, strict=True)
    ), waits
    with open_reader(night.ledger) as ledger:  # recorded before it is waited for
        assert ledger.held_until()
    assert night.taken_once()


@pytest.mark.fault(74, 75)
def test_throttle_that_asks_for_ages(night: Night) -> None:
    """A wait of 10^20 s counts as six hours: 75 with the moment, and no run before it sends anything."""
    night.take_in(2)
    night.api.script(throttled("1" + "0" * 20))
    ended = night.run()
    assert (ended.why, night.states(), night.time.waits) == ((75, "throttled"), {"pending": 2}, [])
    assert "2026-03-02 21:00:00 GMT" in " ".join(ended.notes)
    night.time.now += 5 * 3600
    again = night.run()
    assert (again.why, night.posts()) == ((75, "held"), ["call000"])
    assert "2026-03-02 21:00:00 GMT" in " ".join(again.notes)
    night.time.now += 3601
    assert (night.run().why, night.states()) == ((0, "done"), {"accepted": 2})


@pytest.mark.fault(75)
@pytest.mark.parametrize(("retry_after", "waits"), [("60", [60] * 10), ("", [30, 60, 120])])
def test_throttle_for_ever(night: Night, retry_after: str, waits: list[int]) -> None:
    """429 to everything is waited out, a tenth more at most, then it is 75; the next run waits too."""
    night.take_in(2)
    night.api.script(throttled(retry_after).repeated(FOREVER))
    began = night.time.now
    assert (night.run().why, night.states()) == ((75, "throttled"), {"pending": 2})
    before, asked_at = len(night.posts()), night.api.arrivals[-1].moment
    assert night.posts() == ["call000"] * (len(waits) + 1)
    assert sum(waits) <= night.time.now - began <= 1.1 * sum(waits) + 1
    night.run()
    assert night.api.arrivals[before].moment >= asked_at + 60
    assert night.taken_once()


# clocks ------------------------------------------------------------------------------------------------------
DAY = 86_400.0


@pytest.mark.fault(129)
@pytest.mark.parametrize(
    ("during", "between"),
    [
        *((0.0, seconds) for seconds in (0.0, 3600.0, -3600.0, 400 * DAY, -400 * DAY)),
        *((3600.0, seconds) for seconds in (0.0, 3600.0, -3601.0, -400 * DAY)),
        *((-3600.0, seconds) for seconds in (0.0, -3600.0, -400 * DAY)),
    ],
)
def test_rate_beside_a_clock_that_is_set(night: Night, during: float, between: float) -> None:
    """A clock set within a run, or before the next, lets no more than the rate through and holds nobody up."""

    def put_on(seconds: float) -> None:
        night.ahead_seconds += seconds

    night.take_in(16)
    at_once = {"rate": Rate(5, 60.0), "burst": True}
    first = night.run(**at_once, limit=5, step=at(Step.NOTED, 3, lambda: put_on(during)))
    noted = [datetime.fromisoformat(row["sent_at"]).timestamp() for row in first.rows if row["sent_at"]]
    assert abs(noted[3] - noted[2] - during) < 30
    put_on(between)
    runs = [night.run(**at_once, limit=limit) for limit in (5, 1, 5)]
    moments = [arrival.moment for arrival in night.api.arrivals]
    assert {run.code for run in runs} == {0}
    assert all(later - earlier >= 60 for earlier, later in zip(moments, moments[5:], strict=False))
    assert moments[-1] - moments[0] < 5 * 60
    night.time.now += 120
    told = [any("clock was ahead" in note for note in run.notes) for run in (runs[0], night.run())]
    assert told == [min(0.0, during) + between < 0, False]


@pytest.mark.fault(129)
@pytest.mark.parametrize(("ahead", "held"), [(400 * DAY, 6 * 3600), (0.0, 1000), (-3600.0, 1000)])
def test_wait_that_a_clock_left(night: Night, ahead: float, held: float) -> None:
    """A wait asked for by a clock that was wrong ends in time once it is right: at the latest after 6 hours."""
    night.take_in(1)
    night.ahead_seconds = ahead
    night.api.script(Fault(status=429, headers=(("Retry-After", "1000"),)))
    assert night.run().why == (75, "throttled")
    night.ahead_seconds = 0.0
    early = night.run()
    assert (early.why, any("clock" in note for note in early.notes)) == ((75, "held"), ahead != 0)
    night.time.now = 1000 + held - 10
    assert night.run(max_runtime=1.0).why == (75, "held")
    night.time.now += 20
    assert night.run().why == (0, "done")


@pytest.mark.fault(132)
def test_run_over_new_year(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes from one year, day and hour into the next has one id and times in GMT, whatever the zone."""
    night.take_in(2)
    night.ahead_seconds = 1_798_761_590.0 - NOW_EPOCH_SECONDS  # 2026-12-31 23:59:50 GMT
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        ended = night.run(step=at(Step.NOTED, 1, lambda: night.time.sleep(60)))
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert [row["sent_at"][:10] for row in ended.rows] == ["2026-12-31", "2027-01-01"]
    assert (ended.code, ended.summary.run_id[:13]) == (0, "20261231T2359")


# something else answers --------------------------------------------------------------------------------------
def pour(peer: Peer) -> None:
    """Promise a gigabyte and send of it what is taken."""
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ONE_GIGABYTE)
    poured = 0
    while poured < ONE_GIGABYTE and not peer.over.is_set():
        peer.sock.sendall(b" " * 65536)
        poured += 65536


BOMB = b"\x1f\x8b\x08" + b"\x00" * 60_000


@pytest.mark.fault(86)
@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (pour, "oversized_answer"),
        (answering(http_answer(body=BOMB, Content_Encoding="gzip")), "encoded_answer"),
        # urllib3 gives up at the sixth by itself.
        (answering(http_answer(body=BOMB, Content_Encoding=", ".join(["gzip"] * 6))), "malformed"),
    ],
    ids=["gigabyte", "gzip", "six-times-gzip"],
)
def test_answer_without_measure(night: Night, serve: Serve, behaviour: Behaviour, reason: str) -> None:
    """An answer without end, or packed, is neither read whole nor unpacked: little memory, and uncertain."""
    night.take_in(1)
    server = serve(behaviour)
    tracemalloc.start()
    try:
        ended = night.run(api_url=server.base_url)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (ended.reasons(), night.states()) == ({reason}, {"uncertain": 1})
    assert ids_in(server.received()) == ["call000"]
    assert most < MOST_MEMORY_BYTES
