"""The last run and the ledger as metrics, for node_exporter's textfile collector."""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from prometheus_client import Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from importer import __version__
from importer.errors import CannotCreateError
from importer.private_files import check_ours, make_private_file, read_small
from importer.records import COMPLETE_EXIT_CODES, STOPPED_REASONS, RunSummary
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


@dataclass(frozen=True, slots=True)
class LastRun(Collector):
    """One run that ended, and how it left the ledger; all moments are epoch seconds.

    ``calls`` is empty where the ledger cannot be read, ``oldest_pending`` None where nothing waits.
    """

    command: str
    site: str
    began: float
    ended: float
    summary: RunSummary
    calls: Mapping[CallState, int] = field(default_factory=dict)
    oldest_pending: float | None = None
    last_complete: float | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The labels of every metric."""
        return {"command": self.command, "site": self.site}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that have a value."""
        is_complete = self.summary.exit_code in COMPLETE_EXIT_CODES and self.summary.reason not in STOPPED_REASONS
        outcomes = self.summary.outcomes
        values: dict[str, list[tuple[dict[str, str], float | None]]] = {
            "cdr_importer_build_info": [({"version": __version__}, 1)],
            "cdr_importer_last_run_start_timestamp_seconds": [({}, self.began)],
            "cdr_importer_last_run_end_timestamp_seconds": [({}, self.ended)],
            "cdr_importer_last_run_exit_code": [({}, self.summary.exit_code)],
            _COMPLETE: [({}, self.ended if is_complete else self.last_complete)],
            "cdr_importer_last_run_rows": [({}, self.summary.rows)],
            "cdr_importer_last_run_outcomes": [({"outcome": each}, outcomes.get(each, 0)) for each in Outcome],
            "cdr_importer_ledger_calls": [({"state": each}, count) for each, count in self.calls.items()],
            "cdr_importer_ledger_oldest_pending_timestamp_seconds": [({}, self.oldest_pending)],
        }
        for name, samples in values.items():
            family = GaugeMetricFamily(name, METRICS[name])
            for labels, value in samples:
                if value is not None:
                    family.add_sample(name, {**self.labels, **labels}, value)
            if family.samples:
                yield family


def check_metrics_path(path: Path) -> None:
    """Raise an error before anything is done when the metrics could not be written.

    Raises CannotCreateError, and ConfigurationError when a file at the path is not of this user. The folder may be
    the collector's own: neither a number nor a secret stands in the metrics.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CannotCreateError(
            f"metrics file {path} cannot be written: it is a folder, or its folder is missing or read-only",
            hint="Give --metrics a file in the folder of the textfile collector, where this user may write.",
        )
    with suppress(FileNotFoundError):
        check_ours(path, path.lstat())


def write_metrics(path: Path, run: LastRun) -> None:
    """Replace the metrics in one step, readable by everybody: the collector is another user; raises OSError.

    The last complete run is carried over from the file.
    """
    with suppress(OSError, ValueError, LookupError):  # no file yet, or text of another format
        families = text_string_to_metric_families(read_small(path).decode("utf-8"))
        for sample in (each for family in families for each in family.samples):
            if sample.name == _COMPLETE and sample.labels == run.labels:
                run = replace(run, last_complete=sample.value)
    # `write_to_textfile` writes first to a name that another user of the folder could foretell and make a link.
    # The collector reads every file that ends with .prom, so this name must not.
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        make_private_file(made, generate_latest(run))
        made.chmod(0o644)
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
