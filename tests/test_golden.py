"""Every sample against its expected file: what `check --all-rows` says of it, to the byte.

`python -m pytest tests/test_golden.py --write-missing-expected` writes the files that are missing; read them
before committing them. It never replaces one.
"""

from pathlib import Path

import pytest

from conftest import ROOT, SAMPLES, Program, expected_file, sample_files, sample_options


@pytest.mark.parametrize("sample", sample_files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_sample(
    sample: Path,
    program: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    """`check --all-rows` says of a sample what its expected file holds."""
    monkeypatch.chdir(ROOT)
    results = tmp_path / "results.csv"
    program("check", "--all-rows", *sample_options(sample), "--results", results, sample.relative_to(ROOT))
    found = results.read_bytes().decode("utf-8").replace("\r\n", "\n")
    expected = expected_file(sample)
    if not expected.exists() and pytestconfig.getoption("--write-missing-expected"):
        expected.write_text(found, encoding="utf-8", newline="\n")

    assert expected.read_text(encoding="utf-8") == found


def test_expected_files_have_samples() -> None:
    """No expected file stands without its sample."""
    expected = set(SAMPLES.glob("*/*.expected.csv"))

    assert {expected_file(sample) for sample in sample_files()} == expected


def test_every_format_has_a_sample() -> None:
    """Each built-in format has a folder of samples of its name."""
    formats = {path.stem for path in (ROOT / "schemas/formats").glob("*.toml")}

    assert formats == {sample.parent.name for sample in sample_files()}
