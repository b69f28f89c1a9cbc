"""Pending calls sent: the service as the settings name it, and the pace that earlier runs left."""

import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from importer.auth import SignIn, TokenSource
from importer.client import Client, TokenTransport, Trust
from importer.deliver import LONGEST_WAIT_SECONDS, LOOK_EVERY_SECONDS, Delivery, DeliveryListener, Service
from importer.errors import ExitCode
from importer.ledger import Claimed, Ledger
from importer.pacing import LONGEST_RETRY_AFTER_SECONDS, RollingLimiter
from importer.pipeline.run import Outlook, Run, epoch_of, gmt_text
from importer.records import Event, EventName, Level, Receipt, Stop
from importer.results import ResultsFile
from importer.settings import DATA_CENTERS, Credentials, Settings
from schemas.vocabulary import CallState, counted

_ROWS_AT_ONCE = 10_000


def deliver(run: Run, ledger: Ledger, service: Service, results: ResultsFile, outlook: Outlook) -> Stop | None:
    """Send the calls lined up; return the stop when the run ended before all were sent."""
    run.listener.calls(outlook.calls)
    run.listener.detail(
        f"ledger {run.settings.ledger}: {counted(outlook.calls + outlook.left_pending, 'call')} pending; at most "
        f"{run.settings.rate}, {run.settings.workers} at once"
    )
    if not outlook.calls:
        return None
    latest = 0

    def take_up(batch: Sequence[Claimed]) -> None:
        # Their payload leaves the ledger with the answer, so the rows have to be safe before.
        nonlocal latest
        results.take_up([claimed.call for claimed in batch if not claimed.own_run])
        latest = batch[-1].turn

    untaken: Counter[str] = Counter()

    def receipt(found: Receipt) -> None:
        untaken[found.reason] += found.state is CallState.PENDING
        run.listener.receipt(found)

    stop = _take_over_pace(run, ledger, service)
    if stop is None:
        ledger.end_reopening()
        listener = DeliveryListener(
            claimed=take_up, receipt=receipt, unrecorded=run.listener.unrecorded, event=run.listener.event
        )
        stop = Delivery(ledger, service, run.settings, listener).run()
    # Each call lined up has its row, so that a run that ends early counts as pending what the ledger does.
    while stop and (batch := ledger.claim(_ROWS_AT_ONCE, after=latest)):
        take_up(batch)
    _note_what_is_left(run, stop, outlook, untaken)
    return stop


def _note_what_is_left(run: Run, stop: Stop | None, outlook: Outlook, untaken: Counter[str]) -> None:
    """Note why calls are pending still: the stop, those ``untaken`` by reason, or `--limit`."""
    if stop and stop.message:
        run.listener.note(stop.message)
    elif count := untaken.total():
        api_url, (_, hosts) = run.settings.api_url, DATA_CENTERS[run.settings.data_center]
        host = urlsplit(api_url).hostname if api_url else " or ".join(sorted(hosts))
        calls = counted(count, "call was", "calls were")
        run.listener.note(
            f"{calls} not taken by {host} ({', '.join(+untaken)}), pending still: the next run, or "
            "`cdr-importer deliver`, sends what is left."
        )
    if not stop and run.settings.limit is not None and not run.settings.sandbox and outlook.left_pending:
        what = "it" if outlook.calls == 1 else "them"
        others = counted(outlook.left_pending, "call").removeprefix("1 ")
        run.listener.note(f"Look at {what} in Zoho, then `cdr-importer deliver` sends the other {others}.")


def _take_over_pace(run: Run, ledger: Ledger, service: Service) -> Stop | None:
    """Count the requests of earlier runs against the rate, and keep to a wait that the service asked for.

    The clock may have been set since: a moment that is still to come counts as now, and a clock that was set
    forward makes nothing older.
    """
    boot = ""  # the id of this start of the machine, where the system has one
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    now, clock = service.wall_clock(), service.clock()
    set_forward = ledger.seconds_set_forward(boot, now - clock)
    rate = run.settings.rate
    since = gmt_text(now - rate.period_seconds - set_forward - 1)
    earlier = [epoch_of(text) for text in ledger.sent_since(since, gmt_text(now), rate.limit)]
    service.limiter.count_earlier(clock - now + min(now, moment + set_forward + 1) for moment in earlier)
    if max(earlier, default=now) > now:
        run.listener.note("The clock was ahead in an earlier run: its requests count as sent just now.")
    held = ledger.held_until()
    until = min(epoch_of(held) + set_forward, now + LONGEST_RETRY_AFTER_SECONDS) if held else now
    if held and gmt_text(until) != held:
        held = gmt_text(until)
        ledger.hold_until(held)
        run.listener.note(f"The clock was set since the service asked to wait: that ends at {held} GMT.")
    left = until - now
    if left > LONGEST_WAIT_SECONDS or (
        left > 0 and service.deadline is not None and clock + left >= service.deadline
    ):
        return Stop(ExitCode.TRY_LATER, "held", f"The service asked to wait until {held} GMT; nothing was sent.")
    if left > 0:
        service.limiter.pause_until(clock + left)
    elif held:
        ledger.hold_until(None)
    return None


def service_of(run: Run, credentials: Credentials) -> Service:
    """Return the API as the settings name it; raises ConfigurationError when the CA bundle cannot be read."""
    most_seconds = run.settings.max_runtime
    sign_in = sign_in_of(run.settings, credentials)
    trust = Trust(sign_in.ca_bundle)
    fresh_only = threading.Event()
    transport = TokenTransport(
        sign_in,
        trust=trust,
        limits=run.limits,
        on_answer=lambda answer: run.listener.event(
            Event(EventName.TOKEN_ASKED, Level.INFO, {"http": answer.status})
        ),
    )
    return Service(
        clients=lambda: Client(sign_in.proxy, trust=trust, limits=run.limits, fresh_only=fresh_only),
        tokens=TokenSource(sign_in, transport=transport, clock=run.wall_clock, sleep=partial(_sleep, run)),
        limiter=RollingLimiter(
            run.settings.rate, clock=run.clock, wait_for=run.wait_for, is_burst=run.settings.burst
        ),
        clock=run.clock,
        wall_clock=run.wall_clock,
        sleep=run.sleep,
        deadline=None if most_seconds is None else run.began + most_seconds,
        interrupted=run.interrupted,
        is_cut=run.is_cut,
        cut_sign_in=transport.cut,
        account=f"{sign_in.accounts_url} {sign_in.client_id}",
    )


def _sleep(run: Run, seconds: float) -> None:
    """Sleep, but not through a signal: raises StoppedError then."""
    end = run.clock() + seconds
    while (left := end - run.clock()) > 0:
        run.stop_if_interrupted()
        run.sleep(min(left, LOOK_EVERY_SECONDS))


def sign_in_of(settings: Settings, credentials: Credentials) -> SignIn:
    """Return how to sign in; the token is shared with other runs through a cache file, but not in the sandbox."""
    accounts_url, api_hosts = DATA_CENTERS[settings.data_center]
    cache = platformdirs.user_cache_path("cdr-importer") / "token.json"
    return SignIn(
        accounts_url=settings.accounts_url or accounts_url,
        client_id=credentials.client_id,
        client_secret=credentials.client_secret,
        refresh_token=credentials.refresh_token,
        api_url=settings.api_url,
        api_hosts=api_hosts,
        cache_path=None if settings.sandbox else cache,
        proxy=settings.proxy,
        ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
    )
