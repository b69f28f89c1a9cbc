"""The last run and the ledger as metrics for node_exporter's textfile collector; pings of a dead man's switch."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from importer import __version__
from importer.client.connection import HttpClient
from importer.client.failures import SendFailure
from importer.private_files import put_whole, read_small
from importer.records import COMPLETE_EXIT_CODES, STOPPED_REASONS, RunSummary, Timeouts
from schemas.vocabulary import CallState, Outcome

METRICS: Mapping[str, str] = {
    "cdr_importer_build_info": "Version of the program; always 1.",
    "cdr_importer_last_run_start_timestamp_seconds": "When the last run began.",
    "cdr_importer_last_run_end_timestamp_seconds": "When the last run ended.",
    "cdr_importer_last_run_exit_code": "Exit code of the last run.",
    "cdr_importer_last_complete_run_timestamp_seconds": "When a run last did all its work: exit 0, 3 or 4.",
    "cdr_importer_last_run_rows": "Rows that the last run read.",
    "cdr_importer_last_run_outcomes": "Rows and calls of the last run by outcome.",
    "cdr_importer_ledger_calls": "Calls in the ledger by state.",
    "cdr_importer_ledger_oldest_pending_timestamp_seconds": "When the call that waits longest was taken in.",
}
"""Every metric, all of them gauges, with its help text."""

_COMPLETE = "cdr_importer_last_complete_run_timestamp_seconds"

PING_LIMITS = Timeouts(connect_seconds=5.0, gap_seconds=5.0, deadline_seconds=10.0)
"""Of each try of a ping."""


def write_metrics(
    path: Path,
    labels: Mapping[str, str],
    summary: RunSummary,
    times: tuple[float, float],
    calls: Mapping[CallState, int],
    oldest_pending: float | None,
) -> None:
    """Replace the metrics in one step, readable by everybody: the collector is another user; raises OSError.

    ``labels`` are on every metric; ``times`` are begin and end of the run, and all moments epoch seconds. The last
    complete run is carried over from the file, and all that is there of other labels.
    """
    found: list[Sample] = []
    with suppress(OSError, ValueError, LookupError):  # no file yet, or text of another format
        families = text_string_to_metric_families(read_small(path).decode("utf-8"))
        found = [each for family in families for each in family.samples if each.labels.keys() >= labels.keys()]
    last_complete = next((each.value for each in found if (each.name, each.labels) == (_COMPLETE, labels)), None)
    others = [each for each in found if not labels.items() <= each.labels.items()]
    is_complete = summary.exit_code in COMPLETE_EXIT_CODES and summary.reason not in STOPPED_REASONS
    values: dict[str, list[tuple[dict[str, str], float | None]]] = {
        "cdr_importer_build_info": [({"version": __version__}, 1)],
        "cdr_importer_last_run_start_timestamp_seconds": [({}, times[0])],
        "cdr_importer_last_run_end_timestamp_seconds": [({}, times[1])],
        "cdr_importer_last_run_exit_code": [({}, summary.exit_code)],
        _COMPLETE: [({}, times[1] if is_complete else last_complete)],
        "cdr_importer_last_run_rows": [({}, summary.rows)],
        "cdr_importer_last_run_outcomes": [({"outcome": each}, summary.outcomes.get(each, 0)) for each in Outcome],
        "cdr_importer_ledger_calls": [({"state": each}, count) for each, count in calls.items()],
        "cdr_importer_ledger_oldest_pending_timestamp_seconds": [({}, oldest_pending)],
    }
    registry = CollectorRegistry()
    for name, samples in values.items():
        known = [({**labels, **more}, value) for more, value in samples if value is not None]
        known += [(each.labels, each.value) for each in others if each.name == name]
        if known:
            gauge = Gauge(name, METRICS[name], list(known[0][0]), registry=registry)
            for named, value in known:
                if named.keys() == known[0][0].keys():
                    gauge.labels(**named).set(value)
    # `write_to_textfile` writes first to a name that another user of the folder could foretell and make a link.
    put_whole(path, generate_latest(registry), mode=0o644)


def ping(client: HttpClient, url: str, word: str, body: str = "", *, tries: int = 1) -> str:
    """Ping ``start`` or an exit code at a dead man's switch, each try over a connection of its own.

    Returns why none arrived, as a slug, "" if one did: a switch that does not answer does not fail the run.
    """
    parts = urlsplit(url)
    address = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{word}"))
    why = ""
    for _ in range(tries):
        try:
            status = client.exchange(requests.Request("POST", address, data=body.encode())).status
            if 200 <= status < 300:
                return ""
            why = f"http_{status}"
        except SendFailure as failure:
            why = failure.kind
        finally:
            client.close()
    return why
