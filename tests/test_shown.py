"""What README and the page of the samples show the program printing is what it prints."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, SAMPLES, Ran
from misbehaviour import Simulator

PAGES = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "sample_data/README.md"))
SHOWN = re.findall(r"<!-- shown by: (.*?) -->\n```text\n(.*?)```", PAGES, re.DOTALL)
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}")


def settled(text: str, account: Simulator) -> str:
    """Return what was printed with that in place of which a reader has something else."""
    text = text.replace(account.base_url, "https://www.zohoapis.com")
    return RUN_ID.sub(
        "20260302T153000Z-0a1b", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT", "2026-03-02 15:30:00 GMT", text)
    )


def test_some_are_shown() -> None:
    """The pages show what some commands print, each in the form that this file checks."""
    assert len(SHOWN) == PAGES.count("<!-- shown by: ") >= 4


@pytest.mark.parametrize(("commands", "shown"), SHOWN, ids=[commands for commands, _ in SHOWN])
def test_shown(
    program: Callable[..., Ran],
    account: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: str,
    shown: str,
) -> None:
    """The last of the commands prints exactly what stands there, run ids, times and hosts aside."""
    (tmp_path / "sample_data").symlink_to(SAMPLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    ran = Ran(0, "", "")
    for command in commands.split(" && "):
        name, *arguments = shlex.split(command)
        assert name == "cdr-importer"
        ran = program(*arguments)

    assert settled(ran.stdout + ran.stderr, account) == shown
