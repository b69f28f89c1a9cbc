"""The command `sandbox`: the simulator in the foreground."""

import signal

import click

from importer.cli.output import show
from importer.errors import UsageError


@click.command("sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks one.")
@click.option("--rate-limit", metavar="N/SECONDS", help="Throttle like the API might: N requests in SECONDS.")
def sandbox_command(host: str, port: int, rate_limit: str | None) -> int:
    """Run a simulator of the PhoneBridge API and its token endpoint until interrupted.

    It validates what it gets and lists what it accepted, decoded, under /sandbox/calls.
    """
    from importer.simulator import SANDBOX_CREDENTIALS, Sandbox

    try:
        sandbox = Sandbox(host=host, port=port, rate_limit=_limit(rate_limit))
    except (ValueError, OSError) as error:
        raise UsageError(f"--host/--port: cannot listen on {host} port {port}", hint=str(error)) from error
    account = SANDBOX_CREDENTIALS
    show(f"The sandbox answers at {sandbox.base_url} (accepted calls: {sandbox.base_url}/sandbox/calls).")
    show("Point an import at it from another terminal:")
    show(f"  export CDR_IMPORTER_ACCOUNTS_URL={sandbox.base_url} CDR_IMPORTER_API_URL={sandbox.base_url}")
    show(f"  export CDR_IMPORTER_CLIENT_ID={account.client_id}")
    show(f"  export CDR_IMPORTER_CLIENT_SECRET={account.client_secret}")
    show(f"  export CDR_IMPORTER_REFRESH_TOKEN={account.refresh_token}")
    show(f"For `auth login`, a code that is good for three minutes: {sandbox.base_url}/sandbox/code")
    show("Stop it with Ctrl-C.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sandbox.serve_forever()
    except KeyboardInterrupt:
        show("Stopped.")
    finally:
        sandbox.server_close()
    return 0


def _limit(text: str | None) -> tuple[int, float] | None:
    if text is None:
        return None
    count, _, seconds = text.partition("/")
    try:
        return int(count), float(seconds)
    except ValueError as error:
        raise UsageError(f"--rate-limit: {text!r} is not N/SECONDS, such as 60/60") from error
