"""What the judge's tests share."""

from collections.abc import Iterator

import pytest

from judge.world import ForkServer


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """Return a fork server that serves the tests of one module."""
    with ForkServer() as running:
        yield running
