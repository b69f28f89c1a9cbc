"""Every sample against its expected file, to the byte, and files from the field, row by row.

`python -m pytest tests/test_golden.py --write-missing-expected` writes the files that are missing; read them
before committing them. It never replaces one. A case from the field is a folder `field/<case>/` of the inputs as
they came, `args` (the options) and `expected.txt`: the exit code, the messages where a file or an option is
refused, then a line for each row. `agents...` and `own.toml` are no inputs.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, SAMPLES, Program, expected_file, read_results, sample_files, sample_options

Holds = Callable[[Path, str], None]


@pytest.fixture
def holds(pytestconfig: pytest.Config) -> Holds:
    """Return the assertion that an expected file holds a text; a missing one is written where that is wanted."""

    def compare(expected: Path, found: str) -> None:
        if not expected.exists() and pytestconfig.getoption("--write-missing-expected"):
            expected.write_text(found, encoding="utf-8", newline="\n")

        assert expected.read_text(encoding="utf-8") == found

    return compare


def checked_together() -> list[list[Path]]:
    """Return the samples by their options, in each run one of a format, and no two that have an id in common."""
    runs = list[tuple[list[str], set[str], list[Path]]]()
    for sample in sample_files():
        options, known, expected = sample_options(sample), {sample.parent.name}, expected_file(sample)
        rows = read_results(expected) if expected.exists() else []
        known.update(row[column] for row in rows for column in ("call_id", "source_id") if row[column])
        for others, ids, samples in runs if rows else ():
            if others == options and ids.isdisjoint(known):
                ids |= known
                samples.append(sample)
                break
        else:
            runs.append((options, known, [sample]))
    return [samples for _, _, samples in runs]


@pytest.mark.parametrize("samples", checked_together(), ids=lambda paths: f"{paths[0].parent.name}-{len(paths)}")
def test_samples(
    samples: list[Path], program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: Holds
) -> None:
    """`check --all-rows` says of each sample what its expected file holds."""
    monkeypatch.chdir(ROOT)
    results, names = tmp_path / "results.csv", [str(sample.relative_to(ROOT)) for sample in samples]
    program("check", "--all-rows", *sample_options(samples[0]), "--results", results, *names)
    text = results.read_bytes().decode("utf-8").replace("\r\n", "\n")
    header, *rows = re.split(rf"^(?=(?:{'|'.join(map(re.escape, names))}),)", text, flags=re.MULTILINE)
    for sample, name in zip(samples, names, strict=True):
        holds(expected_file(sample), header + "".join(row for row in rows if row.startswith(f"{name},")))


def test_samples_are_whole() -> None:
    """No expected file stands without its sample, and each built-in format has a folder of samples of its name."""
    samples = sample_files()
    assert {expected_file(sample) for sample in samples} == set(SAMPLES.glob("*/*.expected.csv"))
    assert {path.stem for path in (ROOT / "schemas/formats").glob("*.toml")} == {
        path.parent.name for path in samples
    }


FIELD = Path(__file__).parent / "field"
CASES = sorted(path.name for path in FIELD.iterdir())
ELSEWHERE = "-elsewhere"
"""The end of the name of a case that tries in more formats what another case tries in a few, in the slow run."""
NO_INPUTS = ("agents", "args", "expected.txt", "own.toml")
WITH_MESSAGES = (2, 65, 66, 78)


def shown(row: dict[str, str]) -> str:
    """Return what a person compares of a results row: where, outcome, why, and what would be notified."""
    what = (row["file"], row["line"], row["outcome"], row["reason"] or row["state"])
    call = (row["from"], row["to"], row["start_time"]) if row["outcome"] == "would_send" else ()
    return " ".join(filter(None, (*what, *call, row["zohouser"])))


@pytest.mark.fault(17, 22)
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * case.endswith(ELSEWHERE), id=case) for case in CASES]
)
def test_field_case(
    case: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: Holds
) -> None:
    """`check` says of a file from the field what is right for it."""
    folder, results = FIELD / case, tmp_path / "results.csv"
    monkeypatch.chdir(folder)
    inputs = sorted(path.name for path in folder.iterdir() if not path.name.startswith(NO_INPUTS))
    options = shlex.split((folder / "args").read_text(encoding="utf-8"))
    ran = program("check", "--all-rows", *options, "--results", results, *inputs)
    said = [line for line in ran.stderr.splitlines() if not line.startswith("rows=")]
    rows = read_results(results) if results.exists() else []
    lines = [f"exit {ran.code}", *(said if ran.code in WITH_MESSAGES else ()), *map(shown, rows)]
    holds(folder / "expected.txt", "".join(f"{line}\n" for line in lines))
