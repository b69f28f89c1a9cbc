"""Exports by the addresses of fsspec: read as local ones are, and every fault of a package is an error of ours."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from clusters import REASON, cluster
from conftest import Program, call_row, write_export
from importer.files.remote import path_of
from test_jobs import checked


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """A file system whose package fails with an error of its own once it was opened so many times."""

    protocol = ("bucket",)
    openings = 1 << 20

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("bucket:", "memory:")))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        Bucket.openings -= 1
        return super()._open(path, mode, **options) if Bucket.openings >= 0 else Broken()


class Broken(BytesIO):
    """A file of which no byte can be read any more."""

    def read(self, _size: int | None = -1) -> bytes:
        """Fail."""
        raise RuntimeError("the bucket is gone")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """Give the file system behind `bucket://`, with two exports in it that stand here too."""
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    monkeypatch.setattr(Bucket, "openings", 1 << 20)
    found = fsspec.filesystem("bucket")
    for number in (1, 2):
        local = write_export(tmp_path / f"{number}.csv", [call_row(number), call_row(9, state="off")])
        found.pipe(f"/cdr/{number}.csv", local.read_bytes())
    yield found
    found.store.clear()


def test_address(bucket: MemoryFileSystem, tmp_path: Path, program: Program) -> None:
    """Files, a folder and a pattern behind an address come to what they come to here."""
    files, texts = ("1.csv", "2.csv"), list[str]()
    there = [("bucket://cdr/", names) for names in (files, ("",), ("*.csv",), ("?.csv",))]
    for root, names in ((f"{tmp_path}/", files), *there):
        results = tmp_path / f"results-{len(texts)}"
        ran = program("check", "--results", results, *(root + name for name in names))
        assert (ran.code, ran.summary()["rows"]) == (3, "4")
        texts.append(results.read_text(encoding="utf-8").replace(root, ""))
    assert texts == texts[:1] * 5


def test_address_without_file(bucket: MemoryFileSystem, tmp_path: Path, program: Program) -> None:
    """What is not there or cannot be read any more is 66 and named; the other files are read."""
    good = write_export(tmp_path / "good.csv", [call_row(1)])
    for name, openings, said in (
        ("bucket://cdr/3.csv", 99, "input not found: bucket://cdr/3.csv"),
        ("bucket://cdr/4*.csv", 99, "no file matches bucket://cdr/4*.csv"),
        ("bucket://none/*.csv", 99, "bucket://none/*.csv cannot be read: No such file or directory"),
        *(("bucket://cdr/1.csv", count, "bucket://cdr/1.csv cannot be read: RuntimeError") for count in range(6)),
    ):
        Bucket.openings = openings
        ran = program("check", "--results", tmp_path / "results", name, good)
        assert (ran.code, said in ran.stderr, ran.summary()["would_send"]) == (66, True, "1"), ran.stderr
        (tmp_path / "results").unlink()


SERVER = """
import asyncio, asyncssh, sys
async def serve():
    keys = {"server_host_keys": [sys.argv[1]], "authorized_client_keys": sys.argv[1] + ".pub"}
    server = await asyncssh.listen("127.0.0.1", 0, sftp_factory=True, **keys)
    print(server.get_port(), flush=True)
    await server.wait_closed()
asyncio.run(serve())
"""


@pytest.fixture
def ssh_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Serve this machine's files by SFTP on a port of the loopback, with what fsspec has to be told of it."""
    asyncssh = pytest.importorskip("asyncssh")
    key, path = asyncssh.generate_private_key("ssh-ed25519"), tmp_path / "key"
    key.write_private_key(path)
    key.write_public_key(f"{path}.pub")
    with subprocess.Popen([sys.executable, "-c", SERVER, path], stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline()) if server.stdout else 0
        known = tmp_path / "known"
        known.write_text(f"[127.0.0.1]:{port} {Path(f'{path}.pub').read_text()}", encoding="utf-8")
        options = {"username": "pbx", "client_keys": [str(path)], "known_hosts": str(known)}
        monkeypatch.setenv("FSSPEC_SSH", json.dumps(options))  # for the processes that read
        monkeypatch.setitem(fsspec.config.conf, "ssh", options)
        yield port
        server.kill()


@pytest.mark.slow
@pytest.mark.skipif(bool(REASON), reason=REASON)
def test_workers_read_an_address(tmp_path: Path, ssh_port: int) -> None:
    """Processes and a cluster read the parts of a file by SFTP, and come to what the file here comes to."""
    path = write_export(tmp_path / "export.csv", [call_row(number) for number in range(400)])
    root = f"ssh://127.0.0.1:{ssh_port}"
    here = checked(tmp_path, 1, [path])
    with cluster(tmp_path / "cluster", 2, FSSPEC_SSH=os.environ["FSSPEC_SSH"]) as found:
        for jobs, more in ((2, {}), (1, {"scheduler": found.address})):
            there = checked(tmp_path, jobs, [path_of(f"{root}{path}")], **more)
            assert repr(there).replace(root, "") == repr(here)
