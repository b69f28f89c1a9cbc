"""Bugs that a delivery may have, each seeded as one changed text in a copy of the program; listed in bugs.diff."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT


@dataclass(frozen=True)
class Mutation:
    """One bug: ``old`` must stand in the file exactly once. ``scenario`` names what provokes it."""

    name: str
    scenario: str
    file: str
    old: str
    new: str


def _listed() -> Iterator[Mutation]:
    listed = Path(__file__).with_name("bugs.diff").read_text(encoding="utf-8")
    for bug in listed.split("\n@@ ")[1:]:
        head, *lines = bug.splitlines()
        old, new = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        yield Mutation(*head.split(" | "), old, new)


MUTATIONS = tuple(_listed())


def mutated_copy(mutation: Mutation | None, target: Path) -> Path:
    """Copy the program and change the one text; return where the copy is."""
    for package in ("importer", "schemas"):
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    if mutation is not None:
        path = target / "importer" / mutation.file
        text = path.read_text(encoding="utf-8")
        times = text.count(mutation.old)
        assert times == 1, f"{mutation.name}: the text to change stands {times} times in {mutation.file}"
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return target
