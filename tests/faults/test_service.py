"""Sections C and E: what sign-in and service answer, and how calls go out under it, played to whole runs."""

import errno
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate

import pytest

from conftest import closed_port
from faults.night import NOW_EPOCH_SECONDS, Night, ids_in
from importer.auth import SignIn
from importer.client import TokenTransport
from importer.deliver import UNANSWERED_IN_A_ROW
from importer.errors import CannotCreateError
from importer.ledger import open_reader
from importer.records import Timeouts
from importer.settings import Limit
from misbehaviour import FOREVER, ORDINARY, Fault
from misbehaviour.connections import PATIENCE_SECONDS, Behaviour, Peer, Server, answering, http_answer
from steps import Step, at

Serve = Callable[..., Server]
MOST_MEMORY_BYTES = 4_000_000
ONE_GIGABYTE = 1_000_000_000


# what is answered, and how the run ends -----------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """So many calls, what API and token endpoint answer, and what comes of it.

    ``why`` is exit code and reason, which is empty where it may be any; ``posts`` are numbers of calls.
    """

    calls: int
    script: tuple[Fault, ...]
    why: tuple[int, str]
    states: dict[str, int]
    posts: list[int]
    tokens: tuple[Fault, ...] = ()
    token_requests: int = 1
    words: str = ""
    options: dict[str, object] = field(default_factory=dict)


IMPATIENT = Timeouts(connect_seconds=5, gap_seconds=0.05, deadline_seconds=10)
ODD = Fault(status=200, body=b'{"status":"strange","code":"ODD"}')
NOT_APPLIED, FAILS = Fault(status=425), Fault.internal_error()
DENIED = {"error": "Access Denied", "error_description": "You have made too many requests", "status": "failure"}
REVOKED = Fault.json(200, {"error": "invalid_grant"})
BAD_TOKEN = Fault.refusal("INVALID_TOKEN", 401).repeated(FOREVER)
NO_PERMISSION = Fault.refusal("NO_PERMISSION", 403).repeated(FOREVER)
BREAKER = [call for call in range(UNANSWERED_IN_A_ROW) for _ in range(4)]


def expired(status: int) -> Case:
    """Return that a token expires in mid-run: one request and one refresh more."""
    script = (ORDINARY.repeated(3), Fault.expired_token(status))
    return Case(6, script, (0, "done"), {"accepted": 6}, [0, 1, 2, 3, 3, 4, 5], token_requests=2)


def no_token(code: int, asked: int, *answers: Fault, words: str = "") -> Case:
    """Return that the token endpoint answers so, the last answer for ever, and is asked so many times."""
    answers = (*answers[:-1], answers[-1].repeated(FOREVER))
    return Case(3, (), (code, ""), {"pending": 3}, [], answers, asked, words, {"limits": IMPATIENT})


def outage(*before: Fault, fault: Fault, states: dict[str, int]) -> Case:
    """Return that the second server error in a row ends the run, with the exit code of the uncertain calls."""
    posts = [*range(6 - states["pending"])]
    return Case(6, (*before, fault.repeated(FOREVER)), (4, "uncertain"), states, posts, words="failed")


LOST, HEALED = {"uncertain": 2, "pending": 4}, {"uncertain": 3, "accepted": 1, "pending": 2}
CASES: dict[str, Case] = {
    "token expires, 401": expired(401),
    "token expires, 400": expired(400),
    "new token refused": Case(
        4, (ORDINARY, BAD_TOKEN), (77, "token_refused"), {"accepted": 1, "pending": 3}, [0, 1, 1], (), 2
    ),
    "sign-in revoked": Case(
        4,
        (ORDINARY, Fault.expired_token()),
        (77, ""),
        {"accepted": 1, "pending": 3},
        [0, 1],
        (ORDINARY, REVOKED),
        2,
    ),
    "permission lost": Case(
        5, (ORDINARY.repeated(2), NO_PERMISSION), (77, "not_permitted"), {"accepted": 2, "pending": 3}, [0, 1, 2]
    ),
    "wrong data centre": Case(
        3, (Fault(status=404),), (78, "wrong_address"), {"pending": 3}, [0], words="data-center"
    ),
    "sign-in refused": no_token(77, 1, Fault.json(200, {"error": "invalid_code"}), words="data-center"),
    "client refused": no_token(77, 1, Fault.json(200, {"error": "invalid_client"}), words="data-center"),
    "too many tokens, 400": no_token(75, 1, Fault.json(400, DENIED), words="Wait 10 minutes"),
    "too many tokens, 200": no_token(75, 1, Fault.json(200, DENIED), words="Wait 10 minutes"),
    "token endpoint hangs": no_token(69, 3, Fault(hang=True)),
    "token endpoint resets": no_token(69, 3, Fault(reset_after_reading=True)),
    "token endpoint fails": no_token(69, 3, Fault(status=503)),
    "token a page": no_token(76, 3, Fault.login_page(), Fault.cut_answer(), Fault(raw_answer=b"SSH-2.0-x\r\n")),
    "token redirected": no_token(76, 1, Fault.redirect("http://127.0.0.1:1/", 307)),
    "token of a megabyte": no_token(76, 3, Fault(changes={"access_token": "x" * 1_000_000})),
    "outage, 500": outage(FAILS, fault=FAILS, states=LOST),
    "outage, 502": outage(FAILS, fault=Fault.gateway(502), states=LOST),
    "outage, 504": outage(FAILS, fault=Fault.gateway(504), states=LOST),
    "healed, then 500": outage(FAILS, ORDINARY, fault=FAILS, states=HEALED),
    "healed, then 502": outage(FAILS, ORDINARY, fault=Fault.gateway(502), states=HEALED),
    "healed, then 504": outage(FAILS, ORDINARY, fault=Fault.gateway(504), states=HEALED),
    "unknown refusal": Case(
        6,
        (Fault.refusal("SOMETHING_NEW").repeated(FOREVER),),
        *((76, "refused_by_service"), {"refused": 3, "pending": 3}, [0, 1, 2]),
    ),
    "unknown code": Case(
        6, (ODD.repeated(FOREVER),), (76, "unknown_code"), {"uncertain": 3, "pending": 3}, [0, 1, 2]
    ),
    "several reasons": Case(
        9,
        (ODD, ORDINARY, Fault.lost_answer(), ORDINARY, Fault(status=409)),
        *((4, "max_uncertain"), {"pending": 4, "accepted": 2, "uncertain": 3}, [0, 1, 2, 3, 4]),
    ),
    "tries run out": Case(
        2, (NOT_APPLIED.repeated(4),), (69, "pending"), {"pending": 1, "accepted": 1}, [0, 0, 0, 0, 1]
    ),
    "breaker opens": Case(20, (NOT_APPLIED.repeated(FOREVER),), (69, "unreachable"), {"pending": 20}, BREAKER),
    "408": Case(2, (Fault(status=408).repeated(2),), (69, "pending"), {"pending": 1, "accepted": 1}, [0, 0, 1]),
    "421": Case(2, (Fault(status=421).repeated(2),), (78, "misdirected"), {"pending": 2}, [0, 0]),
}


@pytest.mark.fault(39, 40, 41, 42, 43, 44, 45, 48, 73, 76, 77, 80, 141)
@pytest.mark.parametrize("name", CASES)
def test_run(night: Night, name: str) -> None:
    """What is answered decides how the run ends, where calls stand, how often each was sent, and what is said."""
    case = CASES[name]
    night.take_in(case.calls)
    night.api.script(*case.script)
    night.api.script_tokens(*case.tokens)
    ended = night.run(**case.options)  # type: ignore[arg-type]
    why = ended.why if case.why[1] else (ended.code, "")
    assert (why, night.states()) == (case.why, case.states)
    assert night.posts() == [f"call{number:03}" for number in case.posts]
    assert night.api.token_requests == case.token_requests
    assert case.words in " ".join(ended.notes)
    assert night.taken_once()


# the sign-in -------------------------------------------------------------------------------------------------


@pytest.mark.fault(49)
def test_another_host_with_the_same_refresh_token(night: Night) -> None:
    """A token that a sign-in elsewhere has killed costs one refresh; every call is accepted once."""
    night.take_in(6)
    night.api.service.most_active = 1
    account, url = night.api.credentials, night.api.base_url
    sign_in = SignIn(url, account.client_id, account.client_secret, account.refresh_token)
    form = {
        "grant_type": "refresh_token",
        "client_id": account.client_id,
        "client_secret": account.client_secret,
        "refresh_token": account.refresh_token,
    }
    elsewhere = TokenTransport(sign_in)
    ended = night.run(step=at(Step.SETTLED, 3, lambda: elsewhere(f"{url}/oauth/v2/token", form)))
    assert (ended.why, night.states()) == ((0, "done"), {"accepted": 6})
    assert (night.api.token_requests, len(night.api.arrivals)) == (3, 7)
    assert night.taken_once()


@pytest.mark.fault(44)
def test_token_endpoint_goes_down_in_mid_run(night: Night) -> None:
    """What was sent stays sent, the call without a token stays pending, and the next run goes on."""
    night.take_in(5)
    night.api.script(ORDINARY.repeated(2), Fault.expired_token())
    night.api.script_tokens(ORDINARY, Fault(status=503).repeated(3))
    ended = night.run()
    assert (ended.code, night.states()) == (69, {"accepted": 2, "pending": 3})
    assert night.api.token_requests == 4
    assert (night.run().why, night.states()) == ((0, "done"), {"accepted": 5})
    assert night.taken_once()


@pytest.mark.fault(46)
def test_another_api_host_is_named(night: Night, serve: Serve) -> None:
    """An API host that is none of Zoho's gets neither token nor call, not even a connection: 78."""
    night.take_in(2)
    other = serve(answering(http_answer()))
    night.api.script_tokens(Fault(changes={"api_domain": other.base_url}))
    ended = night.run(api_url=None)
    assert (ended.code, night.states(), other.connections) == (78, {"pending": 2}, 0)
    assert "API host" in ended.notes[-1]


@pytest.mark.fault(93)
def test_second_signal_cuts_the_sign_in(night: Night) -> None:
    """A second signal does not wait for the token endpoint: everything is pending, and no other try is made."""
    night.take_in(2)
    night.api.script_tokens(Fault(delay_seconds=2))
    ended = night.run(is_cut=lambda: night.api.token_requests > 0)
    asked = night.api.token_arrivals
    assert (ended.why, night.states(), night.api.arrivals) == ((143, "signal"), {"pending": 2}, ())
    assert [arrival.status for arrival in asked] == [None]


@pytest.mark.fault(40)
def test_workers_share_one_refresh(night: Night) -> None:
    """A token that expires under four workers is renewed once."""
    night.take_in(12)
    night.api.script(ORDINARY.repeated(4), Fault.expired_token())
    ended = night.run(workers=4)
    assert (ended.why, night.states(), night.api.token_requests) == ((0, "done"), {"accepted": 12}, 2)


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


def test_all_are_sent_in_order(night: Night) -> None:
    """With one worker the calls go out and are listed oldest first; an empty ledger costs no sign-in."""
    night.take_in(0)
    assert (night.run().why, night.api.token_requests) == ((0, "done"), 0)
    night.take_in(7)
    ended, ids = night.run(batch_size=3), [f"call{number:03}" for number in range(7)]
    assert (ended.why, [row["call_id"] for row in ended.rows], night.states()) == (
        (0, "done"),
        ids,
        {"accepted": 7},
    )
    assert night.posts() == ids


def test_workers_send_each_call_once(night: Night) -> None:
    """Four workers over small batches send every call exactly once; the results are in the order of calls."""
    night.take_in(40)
    ended = night.run(batch_size=3, workers=4)
    assert (ended.why, len(ended.rows), night.states()) == ((0, "done"), 40, {"accepted": 40})
    assert [row["call_id"] for row in ended.rows] == sorted(night.posts())
    assert len(set(night.posts())) == len(night.posts()) == 40


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("limit", [1, 3, 5])
def test_limit_counts_calls_over_batches(night: Night, limit: int, workers: int) -> None:
    """A limit holds whatever the size of a batch and the number of workers."""
    night.take_in(5)
    night.run(batch_size=2, limit=limit, workers=workers)
    assert len(night.api.arrivals) == limit


def test_what_was_not_applied_is_tried_again(night: Night) -> None:
    """A request proved not applied is repeated after a second and after two at most, and counted."""
    night.take_in(1)
    night.api.script(NOT_APPLIED.repeated(2))
    assert ([(row["outcome"], row["attempts"]) for row in night.run().rows], len(night.api.arrivals)) == (
        [("accepted", "3")],
        3,
    )
    first, second = (
        after.moment - before.moment
        for before, after in zip(night.api.arrivals, night.api.arrivals[1:], strict=False)
    )
    assert 0 < first <= 1.5
    assert 0 < second <= 2.5


@pytest.mark.parametrize(
    ("limit", "why", "refused"),
    [("2", (3, "max_errors"), 2), ("1", (3, "max_errors"), 1), ("50%", (3, "refused"), 4)],
)
def test_error_limit(night: Night, limit: str, why: tuple[int, str], refused: int) -> None:
    """The run stops at the number of refusals allowed, and a share is not exceeded by every third call."""
    night.take_in(12)
    for number in range(4):
        night.api.script(Fault.refusal(f"CODE_{number}"), ORDINARY.repeated(2))
    ended = night.run(max_errors=Limit.parse(limit))
    assert (ended.why, night.states()["refused"]) == (why, refused)
    assert ("pending" in night.states()) is (why[1] == "max_errors")


def test_results_that_cannot_take_a_batch(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose rows cannot be made safe is not sent; what was in flight is recorded, the failure raised."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    night.take_in(6)
    with pytest.raises(CannotCreateError):
        night.run(batch_size=2, workers=2, step=at(Step.NOTED, 1, lambda: monkeypatch.setattr(os, "fsync", full)))
    assert (night.states(), len(night.api.arrivals)) == ({"accepted": 2, "pending": 4}, 2)


@pytest.mark.fault(73)
@pytest.mark.parametrize("status", [408, 421])
def test_other_connection(night: Night, status: int) -> None:
    """408 and 421 are tried once more over another connection."""
    night.take_in(2)
    night.api.script(Fault(status=status).repeated(2))
    connections: list[int] = []
    night.run(step=at(Step.ANSWERED, 2, lambda: connections.append(night.api.connections)))
    assert connections == [3]


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
def test_throttle_for_ever(night: Night) -> None:
    """429 to everything, each asking for a minute: at last 75, and the next run keeps to the last wait too."""
    night.take_in(2)
    night.api.script(throttled("60").repeated(FOREVER))
    ended = night.run()
    assert (ended.why, night.states(), set(night.posts())) == ((75, "throttled"), {"pending": 2}, {"call000"})
    before, asked_at = len(night.api.arrivals), night.api.arrivals[-1].moment
    night.run()
    assert night.api.arrivals[before].moment >= asked_at + 60
    assert night.taken_once()


@pytest.mark.fault(89)
@pytest.mark.parametrize(
    ("asks_to_wait", "why", "lost"), [(True, (75, "overloaded"), 0), (False, (4, "uncertain"), 2)]
)
def test_maintenance_window(night: Night, asks_to_wait: bool, why: tuple[int, str], lost: int) -> None:
    """Calls go, then 503s come, then calls go again: the next run completes the rest, and each was sent once."""
    night.take_in(30)
    headers = (("Retry-After", "3600"),) if asks_to_wait else ()
    night.api.script(ORDINARY.repeated(20), Fault(status=503, headers=headers).repeated(max(lost, 1)))
    ended = night.run()
    counts = {"accepted": 20, "pending": 10 - lost, "uncertain": lost}
    assert (ended.why, night.states()) == (why, {state: count for state, count in counts.items() if count})
    night.time.now += 3700
    assert night.run().code == (4 if lost else 0)
    assert night.states().get("pending") is None
    assert len(night.api.accepted) == 30 - lost
    assert night.taken_once()


@pytest.mark.fault(75)
def test_throttle_without_a_wait_is_given_up_at_last(night: Night) -> None:
    """429 that names no wait is waited out for 30, 60 and 120 seconds and up to a tenth more, then it is 75."""
    night.take_in(2)
    night.api.script(Fault(status=429).repeated(FOREVER))
    began = night.time.now
    assert (night.run().why, len(night.api.arrivals), night.states()) == ((75, "throttled"), 4, {"pending": 2})
    assert 30 + 60 + 120 <= night.time.now - began <= 1.1 * (30 + 60 + 120) + 1


def test_throttle_holds_all_workers(night: Night) -> None:
    """After a throttle nobody sends before the wait is over, and the call goes out then."""
    night.take_in(6)
    night.api.script(Fault.throttle(wait_seconds=20))
    began = night.time.now
    assert (night.run(workers=3).why, night.states()) == ((0, "done"), {"accepted": 6})
    assert night.time.now >= began + 20


def test_wait_is_kept_before_it_is_waited_for(night: Night) -> None:
    """A run killed while it waits leaves the moment to the next one."""
    night.take_in(1)
    night.api.script(Fault.throttle(wait_seconds=60))
    night.run()
    with open_reader(night.ledger) as ledger:
        assert ledger.held_until() == "2026-03-02 15:01:00"


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
    assert (ended.reasons(), night.states(), ids_in(server.received())) == (
        {reason},
        {"uncertain": 1},
        ["call000"],
    )
    assert most < MOST_MEMORY_BYTES


@pytest.mark.fault(88)
def test_late_answer(night: Night, serve: Serve) -> None:
    """An answer that comes after the deadline leaves its call uncertain and is not taken for another's."""
    night.take_in(2)
    next_call_came = False

    def late(peer: Peer) -> None:
        peer.read_request()
        while not next_call_came and not peer.over.wait(0.01):
            pass
        peer.send(http_answer("400 Bad Request", b'{"code":"INVALID_USER","status":"error"}'))

    def in_time(peer: Peer) -> None:
        nonlocal next_call_came
        while peer.read_request():
            next_call_came = True
            peer.over.wait(0.05)
            peer.send(http_answer())

    server = serve(late, in_time)
    limits = Timeouts(connect_seconds=PATIENCE_SECONDS, gap_seconds=PATIENCE_SECONDS, deadline_seconds=0.4)
    ended = night.run(limits=limits, api_url=server.base_url)
    assert [(row["outcome"], row["reason"]) for row in ended.rows] == [("uncertain", "deadline"), ("accepted", "")]
    assert (ended.code, ids_in(server.received())) == (4, ["call000", "call001"])
