"""Delivery with a real ledger and a real simulator; where a wait would be long, the time is ours."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import closed_port
from importer.auth import SignIn, TokenSource
from importer.client import Client, TokenTransport
from importer.deliver import UNANSWERED_IN_A_ROW, Delivery, DeliveryPlan, Service, Stop, Witness
from importer.errors import CannotCreateError, ExitCode
from importer.ledger import Claimed, Ledger, RunInfo, create_ledger
from importer.pacing import Backoff, Rate, RollingLimiter
from importer.records import Call, Place, Receipt
from importer.settings import ErrorLimit
from misbehaviour import FOREVER, ORDINARY, Fault, Simulator
from runs import OwnTime
from schemas.vocabulary import CallState, State

NOW = "2026-03-02 15:00:00"
WALL_SECONDS = 1_772_463_600.0
ODD = Fault(status=200, body=b'{"status":"strange","code":"ODD"}')


@pytest.fixture
def time() -> OwnTime:
    """Return the time of a test."""
    return OwnTime()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return an empty ledger, opened by a run."""
    path = tmp_path / "ledger.sqlite"
    create_ledger(path, now=NOW)
    with Ledger.open(path, run=RunInfo("run-1", NOW, "0"), now=lambda: NOW) as opened:
        yield opened


def stage(ledger: Ledger, count: int) -> None:
    """Take in so many calls."""
    calls = [
        Call(
            f"call{number:03}",
            State.BUSY,
            "+12125550101",
            f"+121255501{number:02}",
            NOW,
            "",
            "",
            "",
            Place("export.csv", number + 2),
        )
        for number in range(count)
    ]
    with ledger.staging() as staging:
        staging.add(calls, retry_refused=False, resend_uncertain=False)


@pytest.fixture
def service(simulator: Simulator, time: OwnTime) -> Iterator[Service]:
    """Return the simulator as delivery sees it, without real waits."""
    account = simulator.credentials
    sign_in = SignIn(
        simulator.base_url, account.client_id, account.client_secret, account.refresh_token, simulator.base_url
    )
    yield Service(
        clients=Client,
        tokens=TokenSource(
            sign_in, transport=TokenTransport(sign_in), clock=lambda: WALL_SECONDS, sleep=time.sleep
        ),
        limiter=RollingLimiter(Rate.parse("1000/second"), clock=time, wait_for=time.wait_for),
        backoff=Backoff(uniform=max),
        clock=time,
        wall_clock=lambda: WALL_SECONDS,
        sleep=time.sleep,
    )


Deliver = Callable[..., tuple[Stop | None, list[Receipt]]]


@pytest.fixture
def deliver(ledger: Ledger, service: Service) -> Deliver:
    """Return a function that runs a delivery and gives its stop and the receipts as told."""

    def run(plan: DeliveryPlan | None = None, other: Service | None = None) -> tuple[Stop | None, list[Receipt]]:
        told: list[Receipt] = []
        witness = Witness(receipt=told.append)
        return Delivery(ledger, other or service, plan or DeliveryPlan(), witness).run(), told

    return run


def counts(ledger: Ledger) -> dict[str, int]:
    """Return the ledger's calls by state, without empty ones."""
    return {state.value: count for state, count in ledger.counts().items() if count}


def stop_of(stop: Stop | None) -> tuple[int, str] | None:
    """Return code and reason of a stop."""
    return (int(stop.exit_code), stop.reason) if stop else None


def test_all_are_sent_in_order(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """With one worker the calls go out oldest first, and each receipt is told once."""
    stage(ledger, 7)
    stop, told = deliver(DeliveryPlan(batch_size=3))
    ids = [f"call{number:03}" for number in range(7)]
    assert (stop, [receipt.call_id for receipt in told], counts(ledger)) == (None, ids, {"accepted": 7})
    assert [call["id"] for call in simulator.accepted] == ids


def test_workers_send_each_call_once(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """Four workers over small batches send every call exactly once."""
    stage(ledger, 40)
    stop, told = deliver(DeliveryPlan(batch_size=3, workers=4))
    assert (stop, len(told), counts(ledger)) == (None, 40, {"accepted": 40})
    assert Counter(arrival.fields["id"] for arrival in simulator.arrivals).most_common(1)[0][1] == 1


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("limit", [1, 3, 5])
def test_limit_counts_calls_over_batches(
    deliver: Deliver, ledger: Ledger, simulator: Simulator, limit: int, workers: int
) -> None:
    """A limit holds whatever the size of a batch and the number of workers."""
    stage(ledger, 5)
    deliver(DeliveryPlan(batch_size=2, limit=limit, workers=workers))
    assert len(simulator.arrivals) == limit


def test_nothing_pending_asks_for_no_token(deliver: Deliver, simulator: Simulator) -> None:
    """An empty ledger costs no sign-in."""
    assert deliver() == (None, [])
    assert simulator.token_requests == 0


def test_what_was_not_applied_is_tried_again(
    deliver: Deliver, ledger: Ledger, simulator: Simulator, time: OwnTime
) -> None:
    """A request proved not applied is repeated after growing waits, and counted."""
    stage(ledger, 1)
    simulator.script(Fault(status=425, times=2))
    stop, told = deliver()
    assert (stop, told[0].state, told[0].attempts, len(simulator.arrivals)) == (None, CallState.ACCEPTED, 3, 3)
    assert sum(time.waits) == pytest.approx(1.0 + 2.0, abs=0.5)


def test_tries_run_out(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """After four tries the call stays pending and the next one has its turn."""
    stage(ledger, 2)
    simulator.script(Fault(status=425, times=4))
    _, told = deliver()
    assert [(receipt.state, receipt.attempts) for receipt in told] == [
        (CallState.PENDING, 4),
        (CallState.ACCEPTED, 1),
    ]


@pytest.mark.fault(75)
def test_throttle_without_a_wait_is_given_up_at_last(
    deliver: Deliver, ledger: Ledger, simulator: Simulator, time: OwnTime
) -> None:
    """429 that names no wait is waited out for 30, 60 and 120 seconds and up to a tenth more, then it is 75."""
    stage(ledger, 2)
    simulator.script(Fault(status=429).repeated(FOREVER))
    stop, _ = deliver()
    assert (stop_of(stop), len(simulator.arrivals), counts(ledger)) == ((75, "throttled"), 4, {"pending": 2})
    assert time.now - 1000.0 == pytest.approx(1.1 * (30 + 60 + 120), abs=1.0)


@pytest.mark.fault(75)
def test_throttle_that_asks_for_an_hour_ends_the_run(
    deliver: Deliver, ledger: Ledger, simulator: Simulator, time: OwnTime
) -> None:
    """A wait longer than allowed is not waited for: 75, and the ledger says until when."""
    stage(ledger, 2)
    simulator.script(Fault.throttle("A", wait_seconds=3600))
    stop, _ = deliver()
    assert (stop_of(stop), ledger.held_until(), time.waits) == ((75, "throttled"), "2026-03-02 16:00:00", [])


def test_throttle_holds_all_workers(deliver: Deliver, ledger: Ledger, simulator: Simulator, time: OwnTime) -> None:
    """After a throttle nobody sends before the wait is over, and the call goes out then."""
    stage(ledger, 6)
    simulator.script(Fault.throttle("A", wait_seconds=20))
    stop, _ = deliver(DeliveryPlan(workers=3))
    assert (stop, counts(ledger)) == (None, {"accepted": 6})
    assert time.now >= 1020.0


@pytest.mark.fault(59)
def test_lost_answer_is_never_repeated(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """A call whose answer was lost is uncertain after one request, and the run goes on."""
    stage(ledger, 3)
    simulator.script(ORDINARY, Fault.lost_answer())
    stop, told = deliver()
    assert (stop, [receipt.state.value for receipt in told]) == (None, ["accepted", "uncertain", "accepted"])
    assert len(simulator.arrivals) == 3


def test_same_unknown_code_three_times(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """What answers the same unknown code three times in a row is not the API: 76."""
    stage(ledger, 6)
    simulator.script(ODD.repeated(FOREVER))
    stop, _ = deliver()
    assert (stop_of(stop), counts(ledger)) == ((76, "unknown_code"), {"pending": 3, "uncertain": 3})


def test_too_many_uncertain_of_several_kinds(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """Three uncertain calls end a run, whatever made them so and whatever was accepted between."""
    stage(ledger, 9)
    simulator.script(ODD, ORDINARY, Fault.lost_answer(), ORDINARY, Fault(status=409))
    stop, _ = deliver()
    assert stop_of(stop) == (4, "max_uncertain")
    assert counts(ledger) == {"pending": 4, "accepted": 2, "uncertain": 3}


@pytest.mark.fault(76)
def test_server_errors_stop_after_two(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """Two 500 in a row end the run with 69; a success between them does not count as a row."""
    stage(ledger, 6)
    simulator.script(Fault.internal_error(), ORDINARY, Fault.internal_error().repeated(2))
    stop, _ = deliver()
    assert (stop_of(stop), len(simulator.arrivals)) == ((69, "server_error"), 4)


@pytest.mark.fault(41)
def test_token_that_is_refused_twice(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """A new token that is refused too ends the run with 77; the call stays pending after two requests."""
    stage(ledger, 3)
    simulator.script(Fault.refusal("INVALID_TOKEN", 401).repeated(FOREVER))
    stop, _ = deliver()
    assert (stop_of(stop), counts(ledger)) == ((77, "token_refused"), {"pending": 3})
    assert (len(simulator.arrivals), simulator.token_requests) == (2, 2)


@pytest.mark.fault(42)
def test_sign_in_revoked_in_mid_run(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """When the token expires and cannot be renewed, what was sent stays recorded and the rest pending."""
    stage(ledger, 4)
    simulator.script(ORDINARY, Fault.expired_token())
    simulator.script_tokens(ORDINARY, Fault(status=200, body=b'{"error":"invalid_grant"}'))
    stop, _ = deliver()
    assert stop is not None
    assert (stop.exit_code, counts(ledger)) == (ExitCode.NOT_PERMITTED, {"accepted": 1, "pending": 3})


@pytest.mark.fault(40)
def test_workers_share_one_refresh(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """A token that expires under four workers is renewed once."""
    stage(ledger, 12)
    simulator.script(ORDINARY.repeated(4), Fault.expired_token())
    stop, _ = deliver(DeliveryPlan(workers=4))
    assert (stop, counts(ledger), simulator.token_requests) == (None, {"accepted": 12}, 2)


@pytest.mark.parametrize(("limit", "refused"), [("2", 2), ("1", 1), ("50%", None)])
def test_error_limit(
    deliver: Deliver, ledger: Ledger, simulator: Simulator, limit: str, refused: int | None
) -> None:
    """The run stops at the number of refusals allowed, and a share is not exceeded by every third call."""
    stage(ledger, 12)
    for number in range(4):
        simulator.script(Fault.refusal(f"CODE_{number}"), ORDINARY.repeated(2))
    stop, _ = deliver(DeliveryPlan(errors=ErrorLimit.parse(limit)))
    if refused is None:
        assert (stop, counts(ledger)) == (None, {"accepted": 8, "refused": 4})
    else:
        assert (stop_of(stop), counts(ledger)["refused"]) == ((3, "max_errors"), refused)


@pytest.mark.fault(51)
@pytest.mark.parametrize("workers", [1, 3])
def test_nobody_there(
    ledger: Ledger, service: Service, deliver: Deliver, simulator: Simulator, time: OwnTime, workers: int
) -> None:
    """Where nobody listens, the run ends after a few calls in a row with 69, and all is pending."""
    stage(ledger, 20)
    account = simulator.credentials
    nowhere = f"http://127.0.0.1:{closed_port()}"
    sign_in = SignIn(simulator.base_url, account.client_id, account.client_secret, account.refresh_token, nowhere)
    tokens = TokenSource(sign_in, transport=TokenTransport(sign_in), clock=lambda: WALL_SECONDS, sleep=time.sleep)
    stop, told = deliver(DeliveryPlan(workers=workers), replace(service, tokens=tokens))
    assert (stop_of(stop), counts(ledger)) == ((69, "unreachable"), {"pending": 20})
    assert UNANSWERED_IN_A_ROW <= len(told) <= UNANSWERED_IN_A_ROW + workers


def test_signal_stops_between_calls(
    ledger: Ledger, service: Service, deliver: Deliver, simulator: Simulator
) -> None:
    """A signal that comes in while a call is in flight lets it end and begins no other."""
    stage(ledger, 5)

    def interrupted() -> ExitCode | None:
        return ExitCode.TERMINATED if len(simulator.arrivals) >= 2 else None

    stop, told = deliver(None, replace(service, interrupted=interrupted))
    assert (stop_of(stop), counts(ledger)) == ((143, "signal"), {"accepted": 2, "pending": 3})
    assert [receipt.state.value for receipt in told] == ["accepted", "accepted"]


def test_refused_account_does_not_cost_the_calls(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """The account's own trouble is not the calls': 77, and each of them stays pending."""
    stage(ledger, 3)
    simulator.script(Fault.refusal("DIFFERENT_PROVIDER_ALREADY_ENABLED", 403).repeated(FOREVER))
    stop, _ = deliver()
    assert (stop_of(stop), counts(ledger)) == ((77, "other_provider_enabled"), {"pending": 3})


def test_results_that_cannot_take_a_batch(ledger: Ledger, service: Service, simulator: Simulator) -> None:
    """A batch whose rows cannot be made safe is not sent; what was in flight is recorded, the failure raised."""
    stage(ledger, 6)
    batches: list[int] = []

    def claimed(batch: Sequence[Claimed]) -> None:
        batches.append(len(batch))
        if len(batches) == 2:
            raise CannotCreateError("results cannot be written")

    with pytest.raises(CannotCreateError):
        Delivery(ledger, service, DeliveryPlan(batch_size=2, workers=2), Witness(claimed=claimed)).run()
    assert (counts(ledger), len(simulator.arrivals)) == ({"accepted": 2, "pending": 4}, 2)


@pytest.mark.parametrize(("status", "code", "reason"), [(408, None, None), (421, 78, "misdirected")])
def test_tried_once_more(
    deliver: Deliver, ledger: Ledger, simulator: Simulator, status: int, code: int | None, reason: str | None
) -> None:
    """408 and 421 are repeated once on another connection; 421 then ends the run."""
    stage(ledger, 2)
    simulator.script(Fault(status=status).repeated(2))
    stop, told = deliver()
    assert (stop_of(stop), told[0].attempts) == ((code, reason) if code else None, 2)


@pytest.mark.fault(76, 77)
def test_failing_gateway_and_service_are_one_outage(
    deliver: Deliver, ledger: Ledger, simulator: Simulator
) -> None:
    """500 with a code and then 502 without one are two server errors in a row: 69."""
    stage(ledger, 6)
    simulator.script(Fault.internal_error(), Fault.gateway(502))
    stop, _ = deliver()
    assert (stop_of(stop), len(simulator.arrivals)) == ((69, "server_error"), 2)


def test_refused_retries_open_the_breaker(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """Calls given up after all their tries count as unanswered, and the bucket of retries bounds the requests."""
    stage(ledger, 20)
    simulator.script(Fault(status=425).repeated(FOREVER))
    stop, _ = deliver()
    assert (stop_of(stop), counts(ledger)) == ((69, "unreachable"), {"pending": 20})
    assert len(simulator.arrivals) == 5 * 4


def test_wait_is_kept_before_it_is_waited_for(deliver: Deliver, ledger: Ledger, simulator: Simulator) -> None:
    """A run killed while it waits leaves the moment to the next one."""
    stage(ledger, 1)
    simulator.script(Fault.throttle("A", wait_seconds=60))
    deliver()
    assert ledger.held_until() == "2026-03-02 15:01:00"
