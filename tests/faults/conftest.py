"""What the tests of faults stand on."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.night import Night, Waiting

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Waiting:
    """Return where ledgers with calls waiting are kept."""
    return Waiting(tmp_path_factory.mktemp("waiting"))


@pytest.fixture
def night(waiting: Waiting) -> Iterator[Night]:
    """Return an account, without calls yet, at an API of its own.

    Its files are in memory where that is a folder: syncing a busy disk is most of the time of a run, and what a
    power cut leaves is judged elsewhere.
    """
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="night-") as folder:
        night = Night(Path(folder), waiting)
        with night.api:
            yield night
