"""Section B: what is set up wrongly is found out before anything is sent, and named."""

import os
import sqlite3
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest

from conftest import ROOT, Program, call_row, table, write_export
from importer.errors import ConfigurationError
from importer.formats.catalogue import user_folder
from importer.ledger.beside import check_place
from importer.settings.credentials import credentials_path
from ledgers import execute
from misbehaviour import Simulator

NOBODY = 65534


PASSWORD = 'proxy = "http://user:hush-4711@127.0.0.1:9"'


@pytest.mark.fault(29, 30)
@pytest.mark.parametrize(
    ("content", "how", "words"),
    [
        *(("", mode, "chmod 600") for mode in (0o640, 0o604)),
        ("", "a link", "symbolic link"),
        ("", "somebody else's", "chown"),
        *((PASSWORD, mode, "chmod 600") for mode in (0o644, 0o640)),
        # It names the hosts that get secrets and numbers.
        ('rate = "1/second"', 0o646, "chmod o-w"),
    ],
)
def test_file_that_others_hold(
    program: Program,
    account: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    export: Path,
    content: str,
    how: int | str,
    words: str,
) -> None:
    """A file of credentials, or a config with a password, that others read, own or put there is refused: 78."""
    for name in ("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN"):
        monkeypatch.delenv(f"CDR_IMPORTER_{name}")
    path = export.with_name("c.toml") if content else credentials_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        content or "".join(f'{name} = "{word}"\n' for name, word in asdict(account.credentials).items())
    )
    path.chmod(how if isinstance(how, int) else 0o600)
    if how == "a link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    if how == "somebody else's":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(path, NOBODY, NOBODY)
    ran = program("import", "--init-ledger", *(("--config", path) if content else ()), export)
    assert (ran.code, str(path) in ran.stderr, words in ran.stderr) == (78, True, True)
    assert not any(secret in ran.stderr for secret in ("hush", account.credentials.client_secret))
    assert (account.token_requests, account.arrivals) == (0, ())
    if content == PASSWORD:  # without one it may be read
        path.write_text(content.replace("user:hush-4711@", ""))
        assert "chmod" not in program("deliver", "--config", path).stderr


DEEP_TOML = {
    "lists": f"quiet = {'[' * 3000}{']' * 3000}",
    "tables": f"quiet = {'{a=' * 3000}1{'}' * 3000}",
    "key": f"quiet{'.a' * 3000} = 1",
    "key that the parser takes": f"policies{'.a' * 990} = 1",
    "digits": f"workers = {'1' * 5000}",
    "hexadecimal digits": f"workers = 0x{'f' * 5000}",
    "number": f"client_id = 0x{'f' * 5000}",
}


@pytest.mark.fault(28)
def test_toml_beyond_all_bounds(program: Program, export: Path) -> None:
    """Each kind of TOML file ends the run with 78 when it is nested 3,000 deep or holds a number as long."""
    file, own = export.with_name("deep.toml"), user_folder() / "causes" / "deep.toml"
    own.parent.mkdir(parents=True)
    for kind, text in DEEP_TOML.items():
        file.write_text(f"{text}\n")
        assert program("check", "--config", file, export).code == 78, kind
        assert program("check", "--format", file, export).code == 78, kind
        file.rename(own)
        assert program("check", export).code == 78, kind
        own.rename(credentials_path())
        credentials_path().chmod(0o600)
        assert program("deliver").code == 78, kind
        credentials_path().unlink()


PATTERNS = {"(a+)+$": 0, "(?:a?){40}a{40}": 0, f"{'(' * 5000}a{')' * 5000}": 78, "(a)\\1": 78, "(?=a)a": 78}


@pytest.mark.fault(28)
@table(("pattern", "code"), PATTERNS.items())
def test_pattern_that_takes_for_ever(program: Program, tmp_path: Path, pattern: str, code: int) -> None:
    """A pattern for which Python's engine would try all ways takes no time; RE2 refuses what it does not take."""
    own, text = tmp_path / "own.toml", (ROOT / "schemas/formats/callnotify.toml").read_text(encoding="utf-8")
    own.write_text(f"{text}\n[detect.patterns]\nid = '{pattern}'\n".replace('name = "callnotify"', 'name = "own"'))
    export = write_export(tmp_path / "export.csv", [call_row(1, id="a" * 32 + "!")])
    assert program("detect", "--format", own, export).code == code


@pytest.mark.fault(36)
def test_ledger_that_lost_its_key(program: Program, account: Simulator, export: Path, tmp_path: Path) -> None:
    """Without the key in it a ledger knows no call again: 74, no new key is made, nothing is sent."""
    program("import", "--init-ledger", "--limit", "1", export)
    keys = "FROM meta WHERE key = 'fingerprint_key'"
    execute(tmp_path / "ledger.sqlite", f"DELETE {keys}")
    codes = [program("import", export).code, program("deliver").code, program("ledger", "purge").code]
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as other:
        assert other.execute(f"SELECT count(*) {keys}").fetchone() == (0,)
    assert (codes, len(account.arrivals)) == ([74, 74, 74], 1)


MOUNTS = """22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/share rw - nfs4 server:/x rw
31 22 0:41 / /mnt/my\\040disk rw - cifs //server/y rw
32 22 0:42 / /mnt/ssh rw - fuse.sshfs host:/ rw
33 30 8:2 / /mnt/share/local rw - xfs /dev/sdb rw
"""


@pytest.mark.fault(112, 121)
@table(
    ("path", "kind"),
    [
        ("/mnt/share/ledger.sqlite", "nfs4"),
        ("/mnt/my disk/ledger.sqlite", "cifs"),
        ("/mnt/ssh/ledger.sqlite", "fuse.sshfs"),
        ("/mnt/share/local/ledger.sqlite", "xfs"),
        ("/mnt/shared/ledger.sqlite", "ext4"),
        ("/var/lib/ledger.sqlite", "ext4"),
    ],
)
def test_ledger_on_a_network_share(path: str, kind: str) -> None:
    """A ledger that another machine could hold too, with locks that do not reach here, is refused by its kind."""
    is_local = kind in ("xfs", "ext4")
    with nullcontext() if is_local else pytest.raises(ConfigurationError, match=kind):
        check_place(Path(path), MOUNTS)
