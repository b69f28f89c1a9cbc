"""Kinds of fault that files from the field have: what `check --all-rows` says of each, row by row.

A case is a folder `field/<case>/` of the inputs as they came, `args` (the options) and `expected.txt`: the exit
code, the messages where a file or an option is refused, then a line for each row. Files whose names begin with
`agents` are no inputs. `--write-missing-expected` writes what is missing; read it before committing it.
"""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Ran, read_results

FIELD = Path(__file__).parent / "field"
CASES = sorted(path.name for path in FIELD.iterdir())
NO_INPUTS = ("agents", "args", "expected.txt")
WITH_MESSAGES = (2, 65, 66, 78)


def shown(row: dict[str, str]) -> str:
    """Return what a person compares of a results row: where, outcome, why, and what would be notified."""
    what = (row["file"], row["line"], row["outcome"], row["reason"] or row["state"])
    call = (row["from"], row["to"], row["start_time"]) if row["outcome"] == "would_send" else ()
    return " ".join(filter(None, (*what, *call, row["zohouser"])))


@pytest.mark.parametrize("case", CASES)
def test_field_case(
    case: str,
    program: Callable[..., Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    """`check` says of a file from the field what is right for it."""
    folder = FIELD / case
    monkeypatch.chdir(folder)
    inputs = sorted(path.name for path in folder.iterdir() if not path.name.startswith(NO_INPUTS))
    results = tmp_path / "results.csv"
    options = shlex.split((folder / "args").read_text(encoding="utf-8"))
    ran = program("check", "--all-rows", *options, "--results", results, *inputs)
    said = [line for line in ran.stderr.splitlines() if not line.startswith("rows=")]
    rows = read_results(results) if results.exists() else []
    lines = [f"exit {ran.code}", *(said if ran.code in WITH_MESSAGES else ()), *map(shown, rows)]
    found = "".join(f"{line}\n" for line in lines)
    expected = folder / "expected.txt"
    if not expected.exists() and pytestconfig.getoption("--write-missing-expected"):
        expected.write_text(found, encoding="utf-8", newline="\n")

    assert expected.read_text(encoding="utf-8") == found
