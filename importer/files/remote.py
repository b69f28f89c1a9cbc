"""Exports that stand elsewhere, by the addresses of fsspec: `s3://BUCKET/KEY`, `ssh://HOST/PATH` and others.

A package for each scheme reads them (https://filesystem-spec.readthedocs.io) and signs in as its own configuration
says. Its errors become OSError, whatever they are. universal_pathlib, which has paths for fsspec, leaves the host
out of the text of a path, by which results and ledger name files. Addresses of the web are refused: fsspec does
not tell when such a file was last changed, and what stands behind a `?` may be a secret.
"""

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from importer.errors import ConfigurationError
from importer.files.spooling import BLOCK_BYTES


@dataclass(frozen=True, order=True, slots=True)
class Address:
    """The address of a file or folder elsewhere, with the methods of a `Path` that reading calls."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Address":
        """The folder."""
        return Address(self.text.rstrip("/").rpartition("/")[0])

    def absolute(self) -> "Address":
        """Return the address."""
        return self

    def is_dir(self) -> bool:
        """Return whether it is a folder."""
        with self._found() as (system, path):
            return bool(system.isdir(path))

    def is_file(self) -> bool:
        """Return whether it is a file."""
        with self._found() as (system, path):
            return bool(system.isfile(path))

    def iterdir(self) -> list["Address"]:
        """Return what is right in the folder."""
        with self._found() as (system, path):
            return [
                Address(f"{self.text.rstrip('/')}/{Path(each).name}") for each in system.ls(path, detail=False)
            ]

    def stat(self) -> os.stat_result:
        """Return size and time of the last change of a file, its mode and no more; raises OSError."""
        with self._found() as (system, path):
            system.invalidate_cache()
            size, changed = system.size(path), int(system.modified(path).timestamp())
            return os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, size, changed, changed, changed))

    def open(self, _mode: str = "rb") -> io.BufferedReader:
        """Return a reader of the bytes; raises OSError, here and whenever it reads."""
        with self._found() as (system, path):
            return io.BufferedReader(_Reader(system.open(path, "rb")), BLOCK_BYTES)

    @contextmanager
    def _found(self) -> Iterator[tuple[Any, str]]:
        """Give the file system of the address, of which fsspec has no types, and the path in it."""
        with _own_errors():
            from fsspec.core import url_to_fs

            yield url_to_fs(self.text)


def path_of(name: str) -> Path:
    """Return an address as the path that it stands for.

    Raises ConfigurationError where it holds a password or is one of the web, or no package here reads it.
    """
    scheme = name.partition("://")[0]
    if re.search(r"://[^/@]*:[^/@]*@", name):
        raise ConfigurationError(
            f"{scheme}://...: a password in an address can be read by every user (`ps`)",
            hint="Take it out, and put it where the package that reads the address looks for it.",
        )
    if re.search(r"(?:^|::)https?://", name, re.IGNORECASE):
        raise ConfigurationError(
            f"{scheme}://...: an address of the web cannot be read, and what stands in it may be a secret",
            hint="Fetch the file first, or pipe it: `curl -fsS ... | cdr-importer ... -`.",
        )
    try:
        from fsspec import get_filesystem_class

        get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"{name} cannot be read by this installation: {error}",
            hint="Install 'cdr-importer[remote]' and the package for such addresses (s3fs, sshfs), or fetch "
            "the file first.",
        ) from error
    return cast(Path, Address(name))


def is_remote(path: object) -> bool:
    """Return whether a path is an address."""
    return isinstance(path, Address)


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise OSError for whatever a package of fsspec raises inside; its FileNotFoundError often has no text."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
    except Exception as error:
        text = re.sub(r"\?\S*", "?...", str(error))  # an address that a package signed
        raise OSError(errno.EIO, f"{type(error).__name__}: {text}") from error


class _Reader(io.RawIOBase):
    def __init__(self, source: io.BufferedReader) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _own_errors():
            return self._source.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _own_errors():
            found = self._source.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        try:
            with _own_errors():
                self._source.close()
        finally:
            super().close()
