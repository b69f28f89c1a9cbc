"""What the ledger holds, sent: the service as the settings name it, and the pace that earlier runs left."""

import time
from datetime import UTC, datetime

import platformdirs

from importer.auth import SignIn, TokenSource
from importer.client import Client, Route, token_transport
from importer.deliver import LONGEST_WAIT_SECONDS, Delivery, DeliveryPlan, Service, Stop
from importer.errors import ExitCode
from importer.ledger import Claimed, Ledger
from importer.pacing import Rate, RollingLimiter
from importer.pipeline.fates import OUTCOME_OF, row_of
from importer.pipeline.run import Run, gmt_text
from importer.records import Receipt
from importer.results import ResultsFile
from importer.settings import DATA_CENTERS, Credentials, Settings
from importer.steps import Step
from schemas.vocabulary import WIRE_TIME_FORMAT


def deliver(run: Run, ledger: Ledger, credentials: Credentials, results: ResultsFile) -> Stop | None:
    """Send what is pending, oldest first; return why the run stopped early, if it did."""
    waiting = ledger.pending_count()
    run.listener.calls(min(waiting, run.settings.limit or waiting))
    run.listener.detail(
        f"ledger {run.settings.ledger}: {waiting} calls pending; at most {run.settings.rate}, "
        f"{run.settings.workers} at once"
    )
    if not waiting:
        return None
    service = _service(run, credentials)
    stop = _take_over_pace(ledger, service, Rate.parse(run.settings.rate))
    if stop is not None:
        run.listener.note(stop.message)
        return stop
    since_flush = 0

    def on_receipt(claimed: Claimed, receipt: Receipt) -> None:
        nonlocal since_flush
        fate = ledger.fates([receipt.call_id])[receipt.call_id]
        row = row_of(claimed.call, OUTCOME_OF[fate.state], fate)
        results.note(row, carried=not claimed.own_run)
        since_flush += 1
        if since_flush >= run.settings.batch_size:
            results.flush()
            since_flush = 0
        run.listener.step(Step.NOTED)
        run.listener.receipt(receipt)

    stop = Delivery(ledger, service, _delivery_plan(run.settings), run.listener.step).run(on_receipt)
    if stop and stop.message:
        run.listener.note(stop.message)
    return stop


def _take_over_pace(ledger: Ledger, service: Service, rate: Rate) -> Stop | None:
    """Count the requests of earlier runs against the rate, and keep the wait that the service asked them for."""
    now, clock = service.wall_clock(), service.clock()
    earlier = [_epoch_of(text) + 1.0 for text in ledger.sent_since(gmt_text(now - rate.period_seconds - 1))]
    service.limiter.count_earlier(clock - now + moment for moment in earlier)
    held = ledger.held_until()
    left = _epoch_of(held) - now if held else 0.0
    if left > LONGEST_WAIT_SECONDS:
        return Stop(ExitCode.TRY_LATER, "held", f"The service asked to wait until {held} GMT; nothing was sent.")
    if left > 0:
        service.limiter.pause_until(clock + left)
    if held:
        ledger.hold_until(None)
    return None


def _epoch_of(text: str) -> float:
    return datetime.strptime(text, WIRE_TIME_FORMAT).replace(tzinfo=UTC).timestamp()


def _delivery_plan(settings: Settings) -> DeliveryPlan:
    return DeliveryPlan(
        batch_size=settings.batch_size,
        workers=settings.workers,
        limit=settings.limit,
        errors=settings.max_errors,
    )


def _service(run: Run, credentials: Credentials) -> Service:
    settings = run.settings
    sign_in = sign_in_of(settings, credentials)
    route = Route(settings.proxy, str(settings.ca_bundle) if settings.ca_bundle else None)
    return Service(
        clients=lambda: Client(route),
        tokens=TokenSource(sign_in, transport=token_transport(sign_in), clock=time.time, sleep=time.sleep),
        limiter=RollingLimiter(Rate.parse(settings.rate), clock=time.monotonic),
        interrupted=run.interrupted,
    )


def sign_in_of(settings: Settings, credentials: Credentials) -> SignIn:
    """Return how to sign in; the token is shared with other runs through a cache file, but not in the sandbox."""
    center = DATA_CENTERS[settings.data_center]
    cache = platformdirs.user_cache_path("cdr-importer") / "token.json"
    return SignIn(
        accounts_url=settings.accounts_url or center.accounts_url,
        client_id=credentials.client_id,
        client_secret=credentials.client_secret,
        refresh_token=credentials.refresh_token,
        api_url=settings.api_url,
        api_hosts=center.api_hosts,
        cache_path=None if settings.sandbox else cache,
        proxy=settings.proxy,
        ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
    )
