"""The rate, measured at the server."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from conftest import call_row, write_export

WORKERS = 4
RATE = 20
MEASURED_SECONDS = 10
WAIT_SECONDS = 20


@contextmanager
def sandbox(environment: dict[str, str]) -> Iterator[str]:
    """Run `cdr-importer sandbox` in a process of its own; give its base URL."""
    command = [sys.executable, "-u", "-m", "importer", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "export " in line:
                environment.update(word.split("=", 1) for word in line.split()[1:])
            if "Ctrl-C" in line:
                break
        try:
            yield environment["CDR_IMPORTER_API_URL"]
        finally:
            process.terminate()
            process.communicate(timeout=WAIT_SECONDS)


def worst_second(moments: list[float]) -> int:
    """Return the most arrivals in any half-open second."""
    return max(sum(start <= moment < start + 1 for moment in moments) for start in moments)


@pytest.mark.slow
def test_rate_is_kept_at_the_server(tmp_path: Path) -> None:
    """No second at the server sees more than the rate, requests come evenly, and the mean stays near the rate."""
    path = write_export(tmp_path / "export.csv", (call_row(number) for number in range(RATE * MEASURED_SECONDS)))
    environment = {**os.environ, "CDR_IMPORTER_LEDGER": str(tmp_path / "ledger.sqlite")}
    with sandbox(environment) as base_url:
        arguments = (
            "import",
            "--init-ledger",
            "--yes",
            "--rate",
            f"{RATE}/second",
            "--workers",
            str(WORKERS),
            str(path),
        )
        subprocess.run([sys.executable, "-m", "importer", *arguments], env=environment, check=True)
        with urllib.request.urlopen(f"{base_url}/sandbox/calls") as answer:
            arrived = [call["arrived_at"] for call in json.load(answer)]
    moments = sorted(seconds_of(each) for each in arrived)
    mean = (len(moments) - 1) / (moments[-1] - moments[0])
    print(f"worst second {worst_second(moments)}, mean {mean:.2f} of {RATE} in {moments[-1] - moments[0]:.1f} s")
    assert worst_second(moments) <= RATE
    assert mean >= 0.985 * RATE
    assert worst_second([10 * moment for moment in moments]) <= RATE / 4


def seconds_of(arrived_at: str | float) -> float:
    """Return the simulator's moment in seconds."""
    return arrived_at if isinstance(arrived_at, float) else datetime.fromisoformat(arrived_at).timestamp()
