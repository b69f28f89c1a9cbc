"""What the tests of faults stand on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.night import Night, Waiting


@pytest.fixture(scope="session")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Waiting:
    """Return where ledgers with calls waiting are kept."""
    return Waiting(tmp_path_factory.mktemp("waiting"))


@pytest.fixture
def night(tmp_path: Path, waiting: Waiting) -> Iterator[Night]:
    """Return an account, without calls yet, at an API of its own."""
    night = Night(tmp_path, waiting)
    with night.api:
        yield night
