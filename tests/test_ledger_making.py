"""A ledger in the making: a death leaves nothing that stands in the way."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from importer.ledger import Ledger, RunInfo, create_ledger

MAKING = ("ledger/schema.py", "ledger/beside.py", "importer/private_files.py")


def _dies_while_making(path: str, number: int) -> None:
    """Make a ledger and die at the nth line of its making."""
    met = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal met
        is_making = frame.f_code.co_filename.endswith(MAKING)
        if is_making and frame.f_code.co_name != "file_system_of":  # whose lines are as many as the machine mounts
            met += event == "line"
            if met == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    create_ledger(Path(path), now="2026-03-02 14:00:00")


@pytest.mark.parametrize("number", range(4, 320, 8))
def test_death_while_a_ledger_is_made(tmp_path: Path, number: int) -> None:
    """After a death at any moment of making it, a ledger is either there and usable, or can be made."""
    path = tmp_path / "ledger.sqlite"
    child = multiprocessing.get_context("fork").Process(target=_dies_while_making, args=(str(path), number))
    child.start()
    child.join(20)
    if not path.exists():
        create_ledger(path, now="2026-03-02 14:00:00")
    run = RunInfo("r1", "2026-03-02 14:00:00", "0")
    with Ledger.open(path, run=run, now=lambda: "2026-03-02 14:00:00") as ledger:
        assert ledger.pending_count() == 0
