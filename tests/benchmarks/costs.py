"""What a process takes, and the medians of cases that run in turn.

Where other work shares the machine, the processor's seconds (user and system) tell more than the clock's.
"""

import ctypes
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PR_SET_CHILD_SUBREAPER = 36
"""Linux, prctl(2): what a child leaves behind becomes a child of ours, which we can wait for."""


class Cost(NamedTuple):
    """What a case takes: seconds on the clock and of the processor, and peak MiB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float = 0.0


def measure(*arguments: str, python: str = sys.executable) -> Cost:
    """Run Python in a process of its own, on the tree that this file stands in, and return what it took.

    As where it is installed, the interpreter finds our modules compiled, which the first run does, and no
    hypothesis. The seconds of the processor are those of all processes that it starts.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    installed = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{os.environ['HOME']}/compiled"}
    installed["PYTHONPATH"] = str(Path(__file__).with_name("installed"))
    begun = time.perf_counter()
    process = subprocess.Popen(
        [python, *arguments],
        cwd=ROOT,
        env=os.environ | installed,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds, cpu_seconds = time.perf_counter() - begun, usage.ru_utime + usage.ru_stime
    with suppress(ChildProcessError):
        while True:  # the server of its workers may end after it
            left = os.wait4(-process.pid, 0)[2]
            cpu_seconds += left.ru_utime + left.ru_stime
    if status not in (0, 3 << 8):  # rejected rows are a part of the work
        raise SystemExit(f"{' '.join(arguments)[:200]} failed with status {status >> 8}")
    return Cost(seconds, cpu_seconds, usage.ru_maxrss / 1024)


def medians(cases: Mapping[str, Callable[[int], Cost]], rounds: int) -> dict[str, Cost]:
    """Run the cases in turn, each with the number of the round, and return the median of each of their figures."""
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, case in cases.items():
            costs[name].append(case(number))
    return {name: Cost(*map(statistics.median, zip(*each, strict=True))) for name, each in costs.items()}
