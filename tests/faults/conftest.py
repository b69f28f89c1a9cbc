"""What the tests of faults stand on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.night import Night


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """Return an account, without calls yet, at an API of its own."""
    night = Night(tmp_path)
    with night.api:
        yield night
