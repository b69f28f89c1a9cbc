"""What the wheel brings along for the shell: the manual page and the completions are those of this program."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT, table
from shipped import FOLDER, shipped


def test_shipped_files_are_those_of_the_program() -> None:
    """The files are what `python tests/shipped.py` makes of the help of today, and all go into the wheel."""
    texts = shipped()
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()} == set(texts)
    for name, text in texts.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, (
            f"{name}: write it anew, python tests/shipped.py"
        )
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]
    assert {path for paths in told.values() for path in paths} == {f"importer/share/{name}" for name in texts}


@table(
    "command",
    [
        ("bash", "-n", "bash/cdr-importer"),
        ("zsh", "-n", "zsh/_cdr-importer"),
        ("fish", "-n", "fish/cdr-importer.fish"),
        ("groff", "-man", "-Tutf8", "-ww", "-z", "man/cdr-importer.1"),
        ("mandoc", "-Tlint", "-Werror", "man/cdr-importer.1"),
    ],
)
def test_programs_take_them(command: tuple[str, ...]) -> None:
    """The shells, groff and mandoc find nothing wrong with the files."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} on this machine")
    done = subprocess.run([*command[:-1], FOLDER / command[-1]], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_bash_completes(tmp_path: Path) -> None:
    """Bash that loads the file completes a command of the program."""
    program = tmp_path / "cdr-importer"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m importer "$@"\n')
    program.chmod(0o700)
    script = f"""source {FOLDER}/bash/cdr-importer; PATH={tmp_path}:$PATH
        COMP_WORDS=(cdr-importer deli) COMP_CWORD=1; _cdr_importer_completion cdr-importer deli cdr-importer
        echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, cwd=ROOT)
    assert done.stdout.split() == ["deliver"], done.stderr
