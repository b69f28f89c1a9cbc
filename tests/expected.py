"""The samples and the options they are meant to be read with, from the table in sample_data/README.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_data"


def sample_files() -> list[Path]:
    """Return every sample input, in order."""
    return [
        path
        for path in sorted(SAMPLES.glob("*/*.csv"))
        if not path.name.endswith(".expected.csv") and not path.name.startswith(".")
    ]


def sample_options(path: Path) -> list[str]:
    """Return the options of a sample's format, with the agents file as an absolute path."""
    table = (SAMPLES / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{re.escape(path.parent.name)}` \| `([^`]*)` \|$", table, re.MULTILINE)
    if row is None:
        raise AssertionError(f"sample_data/README.md does not say how {path.parent.name} is read")
    return row[1].replace("sample_data/agents.csv", str(SAMPLES / "agents.csv")).split()


def expected_file(path: Path) -> Path:
    """Return where the expected results of a sample stand."""
    return path.with_name(f"{path.stem}.expected.csv")
