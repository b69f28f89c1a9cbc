"""Section E of the list: what the service answers, played to whole runs."""

import tracemalloc
from collections.abc import Callable
from email.utils import formatdate

import pytest

from faults.night import NOW_EPOCH_SECONDS, Night, ids_in
from importer.records import Timeouts
from misbehaviour import FOREVER, ORDINARY, Fault
from misbehaviour.connections import PATIENCE_SECONDS, Behaviour, Peer, Server, answering, http_answer
from steps import Step, at

Serve = Callable[..., Server]
MOST_MEMORY_BYTES = 4_000_000
ONE_GIGABYTE = 1_000_000_000


def throttled(retry_after: str) -> Fault:
    """Return 429 with a Retry-After of any text."""
    return Fault(status=429, headers=(("Retry-After", retry_after),))


# throttles ---------------------------------------------------------------------------------------------------


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


# outages -----------------------------------------------------------------------------------------------------


@pytest.mark.fault(76, 77)
@pytest.mark.parametrize(
    "fault", [Fault.internal_error(), Fault.gateway(502), Fault.gateway(504)], ids=["500", "502", "504"]
)
@pytest.mark.parametrize("is_healed", [False, True])
def test_outage_costs_two_calls(night: Night, fault: Fault, is_healed: bool) -> None:
    """Two server errors in a row, of whatever kind, end the run and say so: the file is not burnt."""
    night.take_in(6)
    first = (Fault.internal_error(), ORDINARY) if is_healed else (Fault.internal_error(),)
    night.api.script(*first, fault.repeated(FOREVER))
    ended = night.run()
    # The two uncertain calls are exit 4, which outranks the outage.
    states = {"uncertain": 3, "accepted": 1, "pending": 2} if is_healed else {"uncertain": 2, "pending": 4}
    assert (ended.why[0], night.states(), ended.reasons()) == (4, states, {"server_error"})
    assert len(night.posts()) == (4 if is_healed else 2)
    assert "The service or a gateway failed" in ended.notes[-1] or "The service failed" in ended.notes[-1]


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


# refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.fault(79)
def test_refusal_of_one_call(night: Night) -> None:
    """A call that the API refuses by a known code is refused, and the others go on: 3."""
    night.take_in(4)
    night.api.script(ORDINARY, Fault.refusal("INVALID_USER"))
    ended = night.run()
    assert (ended.why, night.states()) == ((3, "refused"), {"accepted": 3, "refused": 1})
    refused = next(row for row in ended.rows if row["outcome"] == "refused")
    told = [refused[name] for name in ("call_id", "reason", "http_status", "code", "attempts")]
    assert told == ["call001", "invalid_user", "400", "INVALID_USER", "1"]


@pytest.mark.fault(80)
@pytest.mark.parametrize(
    ("fault", "reason", "state"),
    [
        (Fault.refusal("SOMETHING_NEW"), "refused_by_service", "refused"),
        (Fault(status=200, body=b'{"status":"strange","code":"ODD"}'), "unknown_code", "uncertain"),
    ],
)
def test_unknown_code_to_everything(night: Night, fault: Fault, reason: str, state: str) -> None:
    """What answers three calls in a row with a code nobody knows is not the API: 76, and the file is not burnt."""
    night.take_in(6)
    night.api.script(fault.repeated(FOREVER))
    ended = night.run()
    assert (ended.summary.reason, night.states()) == (reason, {state: 3, "pending": 3})
    assert (ended.code, len(night.posts())) == (76, 3)


# tried once more ---------------------------------------------------------------------------------------------


@pytest.mark.fault(73)
@pytest.mark.parametrize(
    ("status", "why", "states"),
    [(408, (69, "pending"), {"pending": 1, "accepted": 1}), (421, (78, "misdirected"), {"pending": 2})],
)
def test_tried_once_more(night: Night, status: int, why: tuple[int, str], states: dict[str, int]) -> None:
    """408 and 421 are tried once more, over another connection, and then the call stays pending."""
    night.take_in(2)
    night.api.script(Fault(status=status).repeated(2))
    connections: list[int] = []
    ended = night.run(step=at(Step.ANSWERED, 2, lambda: connections.append(night.api.connections)))
    assert (ended.why, night.states(), connections) == (why, states, [3])
    assert night.posts()[:2] == ["call000", "call000"]
    assert len(night.posts()) == 2 + states.get("accepted", 0)


# something else answers --------------------------------------------------------------------------------------


@pytest.mark.fault(81, 82)
@pytest.mark.parametrize(
    ("status", "why", "states"),
    [
        (302, (76, "redirected"), {"uncertain": 1, "pending": 3}),
        (307, (76, "moved"), {"pending": 4}),
    ],
)
def test_redirect(night: Night, serve: Serve, status: int, why: tuple[int, str], states: dict[str, int]) -> None:
    """A redirect ends the run at once with 76; its target sees no connection."""
    night.take_in(4)
    target = serve(answering(http_answer()))
    night.api.script(Fault.redirect(f"{target.base_url}/login", status).repeated(FOREVER))
    ended = night.run()
    assert (ended.why, night.states(), len(night.posts()), target.connections) == (why, states, 1, 0)


@pytest.mark.fault(83)
def test_login_page(night: Night) -> None:
    """A login page under 200 leaves one call uncertain and ends the run with 76."""
    night.take_in(4)
    night.api.script(Fault.login_page().repeated(FOREVER))
    ended = night.run()
    assert (ended.why, night.states()) == ((76, "web_page"), {"uncertain": 1, "pending": 3})
    assert len(night.posts()) == 1


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
