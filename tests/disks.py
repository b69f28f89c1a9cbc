"""A disk that fills up, and disks of their own."""

import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def filling_disk(most_bytes: Callable[[], int] = lambda: 0) -> Iterator[Callable[[], None]]:
    """Give a function after which no file of this process can be written beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes(), before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def own_disk(folder: Path, megabytes: int) -> Iterator[Callable[[str], None]]:
    """Mount a disk on a folder and give a function that mounts it anew, `ro` or `rw`; skip where we may not."""

    def mount(*options: str) -> None:
        subprocess.run(["mount", "-o", *options, str(folder)], check=True, capture_output=True)

    try:
        mount(f"size={megabytes}m", "-t", "tmpfs", "none")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield lambda way: mount(f"remount,{way}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
