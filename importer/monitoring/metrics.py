"""The last run and the ledger as metrics, for node_exporter's textfile collector.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from importer.errors import CannotCreateError, ExitCode
from importer.private_files import check_ours, make_private_file, read_small
from importer.records import RunSummary
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
_DID_ITS_WORK = frozenset({ExitCode.OK, ExitCode.PARTIAL, ExitCode.UNCERTAIN})
_STOPPED = frozenset({"max_errors", "max_uncertain"})


@dataclass(frozen=True, slots=True)
class LastRun:
    """One run that ended; ``began`` and ``ended`` are epoch seconds."""

    command: str
    site: str
    version: str
    began: float
    ended: float
    summary: RunSummary

    @property
    def is_complete(self) -> bool:
        """Say whether the run did all its work: whatever is left then is for a person, not for the next run."""
        return self.summary.exit_code in _DID_ITS_WORK and self.summary.reason not in _STOPPED


@dataclass(frozen=True, slots=True)
class Standing:
    """How the ledger stands; ``oldest_pending`` is epoch seconds, None when nothing waits."""

    calls: Mapping[CallState, int]
    oldest_pending: float | None


def metrics_text(run: LastRun, standing: Standing | None, before: str) -> str:
    """Return the metrics; ``before`` is the file's text so far, out of which a complete run is carried over."""
    labels = {"command": run.command, "site": run.site}
    samples: dict[str, list[tuple[dict[str, str], float]]] = {
        "cdr_importer_build_info": [({"version": run.version}, 1)],
        "cdr_importer_last_run_start_timestamp_seconds": [({}, run.began)],
        "cdr_importer_last_run_end_timestamp_seconds": [({}, run.ended)],
        "cdr_importer_last_run_exit_code": [({}, run.summary.exit_code)],
        "cdr_importer_last_run_rows": [({}, run.summary.rows)],
        "cdr_importer_last_run_outcomes": [
            ({"outcome": each}, run.summary.outcomes.get(each, 0)) for each in Outcome
        ],
    }
    complete = run.ended if run.is_complete else _last_complete(before, labels)
    if complete is not None:
        samples[_COMPLETE] = [({}, complete)]
    if standing is not None:
        samples["cdr_importer_ledger_calls"] = [({"state": each}, n) for each, n in standing.calls.items()]
        if standing.oldest_pending is not None:
            oldest = "cdr_importer_ledger_oldest_pending_timestamp_seconds"
            samples[oldest] = [({}, standing.oldest_pending)]
    return "".join(_lines(samples, labels))


def _lines(samples: Mapping[str, list[tuple[dict[str, str], float]]], labels: Mapping[str, str]) -> Iterator[str]:
    for name, text in METRICS.items():
        if name not in samples:
            continue
        yield f"# HELP {name} {text}\n# TYPE {name} gauge\n"
        for own, value in samples[name]:
            yield f"{name}{_label_text({**labels, **own})} {value:.15g}\n"


def _label_text(labels: Mapping[str, str]) -> str:
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in labels.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def _last_complete(before: str, labels: Mapping[str, str]) -> float | None:
    found = re.search(rf"^{_COMPLETE}{re.escape(_label_text(labels))} ([0-9.e+]{{1,30}})$", before, re.MULTILINE)
    with suppress(ValueError):
        return float(found[1]) if found else None
    return None


def check_place(path: Path) -> None:
    """Find out before anything is done that the metrics could not be put there.

    Raises CannotCreateError, and ConfigurationError when what they are to replace is not a file of ours. The
    folder may be the collector's own: neither a number nor a secret stands in the metrics.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CannotCreateError(
            f"metrics file {path} cannot be written: it is a folder, or its folder is missing or read-only",
            hint="Give --metrics a file in the folder of the textfile collector, where this user may write.",
        )
    with suppress(FileNotFoundError):
        check_ours(path, path.lstat())


def write_metrics(path: Path, run: LastRun, standing: Standing | None) -> None:
    """Replace the metrics in one step, readable by everybody: the collector is another user; raises OSError."""
    before = ""
    with suppress(OSError, UnicodeDecodeError):
        before = read_small(path).decode("utf-8")
    # The collector reads whatever ends with .prom, so the file in the making must not.
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        make_private_file(made, metrics_text(run, standing, before).encode())
        made.chmod(0o644)
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
