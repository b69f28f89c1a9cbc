"""How many functions of the program a row and a call pass, and how many `check` of one row enters.

Counted are different functions of `importer` and `schemas` (no comprehensions, no lambdas) by `sys.setprofile` in
this process: `check` of one row as a whole; in it the row, from the first chunk that is read to its line in the
results; and in an `import --sandbox` the call, from staging to its receipt in the ledger.
Aims: 230, 140, 130.

Usage: python tests/benchmarks/trace.py [--names]
"""

import contextlib
import io
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from types import CodeType, FrameType

from importer.cli import run

ROW = (
    '"","101","12125550142","from-internal","""Ann"" <101>","PJSIP/101-00000001","PJSIP/trunk-a-00000002","Dial",'
    '"PJSIP/12125550142@trunk-a,30","2026-03-02 10:00:00","","2026-03-02 10:00:30",30,0,"NO ANSWER",'
    '"DOCUMENTATION","1772463600.1",""\n'
)
OPTIONS = ("--timezone", "America/New_York", "--country", "US", "--default-agent-number", "+12125550100")
ROOT = Path(__file__).resolve().parents[2]
ROW_BEGINS = "importer/pipeline/intake.py"
CALL_BEGINS = "importer/ledger/staging.py:Staging.add"


@contextlib.contextmanager
def entered() -> Iterator[list[CodeType]]:
    """Collect the code of every function of ours that is entered, in any thread, in the order of first entry."""
    found: dict[CodeType, None] = {}
    ours = tuple(f"{ROOT / name}/" for name in ("importer", "schemas"))

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ours) and frame.f_code.co_name[0] != "<":
            found.setdefault(frame.f_code)

    result: list[CodeType] = []
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield result
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        result += found


def shown(code: CodeType) -> str:
    """Return file and name of a function."""
    return f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_qualname}"


def traced(folder: Path, number: int, *command: str) -> list[CodeType]:
    """Run a command on one row, silently, and return what it enters."""
    results = folder / f"{command[0]}-{number}.csv"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), entered() as codes:
        run([*command, *OPTIONS, "--results", str(results), str(folder / "Master.csv")])
    return [code for code in codes if not shown(code).startswith("importer/simulator")]


def main() -> None:
    """Trace `check` and `import --sandbox` of one row and print the counts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "Master.csv").write_text(ROW)
        for number in range(2):  # twice: what is imported is none of it
            checked = traced(folder, number, "check")
            imported = traced(folder, number, "import", "--sandbox", "--yes")
    figures = {
        "check of one row": (checked, "", 230),
        "a row, from file to results": (checked, ROW_BEGINS, 140),
        "a call, from staging to accepted": (imported, CALL_BEGINS, 130),
    }
    for title, (codes, begins, aim) in figures.items():
        counted = list(dropwhile(lambda code, begins=begins: not shown(code).startswith(begins), codes))
        files = len({code.co_filename for code in counted})
        print(f"{title:34} {len(counted):4} functions in {files:3} modules (aim {aim})")
        if "--names" in sys.argv:
            print(*(f"    {shown(code)}" for code in counted), sep="\n")


if __name__ == "__main__":
    main()
