"""Section B: what is set up wrongly is found out before anything is sent, and named."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from conftest import ROOT, Program, call_row, write_export
from importer.errors import ConfigurationError
from importer.formats.catalogue import user_folder
from importer.ledger.beside import check_place, file_system_of
from importer.settings import credentials_path
from misbehaviour import Simulator

NOBODY = 65534


@pytest.mark.fault(29, 30)
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("open to the group", "chmod 600"),
        ("open to all", "chmod 600"),
        ("a link", "symbolic link"),
        ("somebody else's", "chown"),
    ],
)
def test_credentials_that_others_hold(
    program: Program, account: Simulator, monkeypatch: pytest.MonkeyPatch, export: Path, how: str, words: str
) -> None:
    """A credentials file that others read, own or put there is refused with the remedy, and nothing is sent."""
    for name in ("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN"):
        monkeypatch.delenv(f"CDR_IMPORTER_{name}")
    held, path = account.credentials, credentials_path()
    path.parent.mkdir(parents=True)
    path.write_text(
        f'client_id = "{held.client_id}"\nclient_secret = "{held.client_secret}"\n'
        f'refresh_token = "{held.refresh_token}"\n'
    )
    path.chmod({"open to the group": 0o640, "open to all": 0o604}.get(how, 0o600))
    if how == "a link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    if how == "somebody else's":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(path, NOBODY, NOBODY)
    ran = program("import", "--init-ledger", export)
    assert (ran.code, str(path) in ran.stderr, held.client_secret in ran.stderr) == (78, True, False)
    assert words in ran.stderr
    assert (account.token_requests, account.arrivals) == (0, ())


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
@pytest.mark.parametrize("text", DEEP_TOML.values(), ids=DEEP_TOML)
def test_toml_beyond_all_bounds(program: Program, export: Path, text: str) -> None:
    """Each kind of TOML file ends the run with 78 when it is nested 3,000 deep or holds a number as long."""
    file, own = export.with_name("deep.toml"), user_folder() / "causes" / "deep.toml"
    file.write_text(f"{text}\n")
    assert program("check", "--config", file, export).code == 78
    assert program("check", "--format", file, export).code == 78
    own.parent.mkdir(parents=True)
    file.rename(own)
    assert program("check", export).code == 78
    own.rename(credentials_path())
    credentials_path().chmod(0o600)
    assert program("deliver").code == 78


PATTERNS = {"(a+)+$": 0, "(?:a?){40}a{40}": 0, f"{'(' * 5000}a{')' * 5000}": 78, "(a)\\1": 78, "(?=a)a": 78}


@pytest.mark.fault(28)
@pytest.mark.parametrize(("pattern", "code"), PATTERNS.items(), ids=lambda each: str(each)[:15])
def test_pattern_that_takes_for_ever(program: Program, export: Path, pattern: str, code: int) -> None:
    """A pattern for which Python's engine would try all ways takes no time; RE2 refuses what it does not take."""
    own, id_of_32 = export.with_name("own.toml"), "a" * 32 + "!"
    built_in = (ROOT / "schemas/formats/callnotify.toml").read_text(encoding="utf-8")
    own.write_text(
        f"{built_in}\n[detect.patterns]\nid = '{pattern}'\n".replace('name = "callnotify"', 'name = "own"')
    )
    write_export(export, [call_row(1, id=id_of_32)])
    assert program("detect", "--format", own, export).code == code


@pytest.mark.fault(33, 111)
def test_results_that_cannot_be_written(
    program: Program, account: Simulator, export: Path, tmp_path: Path
) -> None:
    """Results or rejects in an impossible place are found out before anything is taken in: 73, nothing made."""
    ledger = tmp_path / "ledger.sqlite"
    text = export.read_text()
    for flag in ("--results", "--rejects"):
        for place in (tmp_path, export.with_name("no") / "r.csv", Path("/proc/no/r.csv")):
            ran = program("import", "--init-ledger", flag, place, export)
            assert (ran.code, ran.summary()["exit"]) == (73, "73"), (flag, place, ran.stderr)
    assert (account.token_requests, account.arrivals, export.read_text()) == (0, (), text)
    assert not ledger.exists()


@pytest.mark.fault(36)
def test_ledger_that_lost_its_key(program: Program, account: Simulator, export: Path, tmp_path: Path) -> None:
    """Without the key in it a ledger knows no call again: 74, no new key is made, nothing is sent."""
    program("import", "--init-ledger", "--limit", "1", export)
    ledger = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(ledger)) as other:
        other.execute("DELETE FROM meta WHERE key = 'fingerprint_key'")
        other.commit()
    codes = [program("import", export).code, program("deliver").code, program("ledger", "purge").code]
    with closing(sqlite3.connect(ledger)) as other:
        keys = other.execute("SELECT count(*) FROM meta WHERE key = 'fingerprint_key'").fetchone()
    assert (codes, keys, len(account.arrivals)) == ([74, 74, 74], (0,), 1)


# where a ledger may stand ------------------------------------------------------------------------------------

MOUNTS = """22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/share rw - nfs4 server:/x rw
31 22 0:41 / /mnt/my\\040disk rw - cifs //server/y rw
32 22 0:42 / /mnt/ssh rw - fuse.sshfs host:/ rw
33 30 8:2 / /mnt/share/local rw - xfs /dev/sdb rw
"""


@pytest.mark.fault(112, 121)
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mnt/share/ledger.sqlite", "nfs4"),
        ("/mnt/my disk/ledger.sqlite", "cifs"),
        ("/mnt/ssh/ledger.sqlite", "fuse.sshfs"),
        ("/mnt/share/local/ledger.sqlite", ""),
        ("/mnt/shared/ledger.sqlite", ""),
        ("/var/lib/ledger.sqlite", ""),
    ],
)
def test_ledger_on_a_network_share(path: str, kind: str) -> None:
    """A ledger that another machine could hold too, with locks that do not reach here, is refused by its kind."""
    if not kind:
        assert file_system_of(Path(path), MOUNTS) in ("ext4", "xfs")
        check_place(Path(path), MOUNTS)
        return
    with pytest.raises(ConfigurationError, match=kind):
        check_place(Path(path), MOUNTS)


@pytest.mark.fault(146)
def test_ledger_in_a_folder_of_everybody(
    program: Program, account: Simulator, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where anybody could replace the ledger none is made or used; a sticky folder such as /tmp is safe."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("CDR_IMPORTER_LEDGER", str(folder / "ledger.sqlite"))
    ran = program("import", "--init-ledger", export)
    assert (ran.code, "chmod o-w" in ran.stderr, list(folder.iterdir())) == (78, True, [])
    folder.chmod(0o1777)
    assert program("import", "--init-ledger", export).code == 0
    folder.chmod(0o777)
    assert (program("import", export).code, len(account.arrivals)) == (78, 3)
