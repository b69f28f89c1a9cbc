"""Every kind of input error with the very words that a person gets: `errors/<case>.txt` is the whole of it.

A case is `<case>.csv` (the input, if it has one; `.gz` and the like for a packed one), `<case>.args` (arguments
where they are more than the input;
``@NAME=value`` sets a variable of the environment, ``@toml:line`` writes a line into a config file) and
`<case>.txt`: the exit code and how many requests were sent, then stderr.
"""

import re
import shlex
from pathlib import Path

import pytest

from conftest import Program
from misbehaviour import Simulator

ERRORS = Path(__file__).parent / "errors"
CASES = sorted({path.stem for path in ERRORS.iterdir()})
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}")
# Which formats come second and third changes with every format that is added.
FURTHER_FORMATS = re.compile(r"(?<=\). )Nearest: .*(?=See )")


@pytest.mark.fault(1, 2, 3, 4, 5, 6, 7, 10, 15, 25, 13, 28, 31, 38, 128, 148)
@pytest.mark.parametrize("case", CASES)
def test_error_says_what_and_what_to_do(
    program: Program, account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Exit code, stderr and the number of requests, sign-ins included, are those of the gallery."""
    folder = tmp_path / "in"
    folder.mkdir()
    file, words = folder / f"{case}.csv", "{file}"
    for source in (each for each in ERRORS.glob(f"{case}.*") if each.suffix not in (".args", ".txt")):
        file = folder / source.name
        file.write_bytes(source.read_bytes())
    if (ERRORS / f"{case}.args").exists():
        words = (ERRORS / f"{case}.args").read_text(encoding="utf-8")
    arguments = []
    for word in shlex.split(words, posix=False):
        if word.startswith("@toml:"):
            (folder / "config.toml").write_text(word.removeprefix("@toml:") + "\n", encoding="utf-8")
            arguments += ["--config", str(folder / "config.toml")]
            if "rate" in word.lower():
                monkeypatch.delenv("CDR_IMPORTER_RATE")
        elif word.startswith("@"):
            monkeypatch.setenv(*word[1:].split("=", 1))
        else:
            arguments.append(word.format(file=file, folder=folder))
    ran = program("import", "--init-ledger", *arguments)
    said = RUN_ID.sub("{run}", ran.stderr.replace(str(folder), "{folder}"))
    said = FURTHER_FORMATS.sub("{further formats} ", said)
    requests = len(account.arrivals) + account.token_requests
    told = (ERRORS / f"{case}.txt").read_text(encoding="utf-8")
    assert f"exit {ran.code}, {requests} requests\n{said}" == told
