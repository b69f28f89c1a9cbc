"""Samples, formats and agents files damaged by chance: no damage is a bug of ours, hangs, or loses a row."""

import faulthandler
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, SAMPLES, Program, read_results, sample_options
from samples import INPUTS

PATIENCE_SECONDS = 120.0
SAMPLE_BYTES = 600
MORE = int(os.environ.get("CDR_IMPORTER_MUTANTS", "1"))
DETECTED, NAMED, OWN, LISTED = MORE, 3 * MORE, 16 * MORE, 2 * MORE
"""Mutants of a sample, checked and, by its format, imported; of a format; with each of the agents file: 1,900.

What is read takes 20 ms of the processor and more, however short it is.
"""

USUAL = {0, 3, 65, 66, 78}
FORMATS = sorted((ROOT / "schemas" / "formats").glob("*.toml"))
SNIPPETS = [
    *rb"""" ' "" , ; | \ =1+1 -1 0 1e309 nan NULL \N None true sep=; 0000-00-00 +00:00 Z""".split(),
    *rb"""+ +12125550142 tel: ( ) [ ] { } # % $ ^ .* (a+)+$""".split(),
    *(b"\0", b"\t", b"\r", b"\n", b"\r\n", b"\n\n", b"\x1a", b"\x1b[2J", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\xc3\x28", b"\xed\xa0\x80", "\u0662\u0660".encode(), "\u202e".encode(), b"9" * 400, b" ", b"\xc2\xa0"),
    *(b"1970-01-01 00:00:00", b"9999-12-31 23:59:59", b"2026-03-08 02:30:00"),
]
MARKS = (b",", b";", b"\t", b"\n", b'"', b" ", b"-", b":", b"1")


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return a file with one damage."""
    start = chance.randrange(len(content) + 1)
    end = min(len(content), start + chance.choice((1, 1, 4, 40, 400)))
    lines = content.splitlines(keepends=True)
    damages: tuple[Callable[[], bytes], ...] = (
        lambda: content[:start] + content[end:],
        lambda: content[:start],
        lambda: content[:end] + content[start:],
        lambda: content[:start] + chance.choice(SNIPPETS) + content[start:],
        lambda: content[:start] + chance.choice(SNIPPETS) + content[end:],
        lambda: content[:start] + chance.randbytes(end - start) + content[end:],
        lambda: b"".join(chance.sample(lines, len(lines))),
        lambda: b"".join(line for line in lines if chance.random() < 0.9),
        content.swapcase,
        lambda: content.replace(*chance.sample(MARKS, 2)),
    )
    return chance.choice(damages)()


def take_all(program: Program, command: list[str], files: list[Path], results: Path) -> None:
    """Take files in one run, in two where one of them stops all; each row read has its line in the results."""
    faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True, file=sys.__stderr__)
    ran = program(*command, "--json", "--all-rows", "--results", results, *files)
    faulthandler.cancel_dump_traceback_later()
    assert ran.code in USUAL, (ran, files)
    if results.exists():
        summary = json.loads(ran.stdout)
        listed = Counter(row["outcome"] for row in read_results(results))
        results.unlink()
        assert listed.total() == summary["rows"] + summary["carried"], files
        assert listed == {outcome: summary[outcome] for outcome in listed}, files
    elif len(files) > 1:
        for half in (files[::2], files[1::2]):
            take_all(program, command, half, results)
    else:
        assert ran.code >= 65, (ran, files)


def mutants(content: bytes, count: int, chance: random.Random, folder: Path, suffix: str) -> list[Path]:
    """Write copies of a file with one to four damages each, beside those that are there."""
    there = len(list(folder.iterdir()))
    paths = [folder / f"{there + number:03}{suffix}" for number in range(count)]
    for path in paths:
        copy = content
        for _ in range(chance.randint(1, 4)):
            copy = damaged(copy, chance)
        path.write_bytes(copy)
    return paths


def samples_of(path: Path) -> list[Path]:
    """Return the samples of a format."""
    return [each for each in INPUTS if each.parent.name == path.stem]


@pytest.mark.slow
@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("account")
def test_damaged_samples(program: Program, tmp_path: Path, path: Path) -> None:
    """However a sample is damaged, it is refused for itself or each of its rows has an outcome."""
    chance, results, samples = random.Random(path.stem), tmp_path / "results.csv", samples_of(path)
    options, checked, imported = sample_options(samples[0]), list[Path](), list[Path]()
    for sample in samples:
        content = sample.read_bytes()[:SAMPLE_BYTES]
        checked += mutants(content, DETECTED, chance, tmp_path, ".csv")
        imported += mutants(content, NAMED, chance, tmp_path, ".csv")
    take_all(program, ["check", *options], checked, results)
    assert program("detect", *checked).code in USUAL
    command = ["import", "--init-ledger", "--limit", "1", "--format", path.stem, *options]
    take_all(program, command, imported, results)


@pytest.mark.slow
@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
def test_damaged_formats(program: Program, tmp_path: Path, path: Path) -> None:
    """However a format, or an agents file, is damaged, it is refused with 78, or it says what it still says."""
    sample = min(samples_of(path), key=lambda each: each.stat().st_size)
    short, chance = tmp_path / "short.csv", random.Random(path.stem)
    short.write_bytes(sample.read_bytes()[:SAMPLE_BYTES])
    command = ["check", *sample_options(sample)]
    for own in mutants(path.read_bytes(), OWN, chance, tmp_path, ".toml"):
        take_all(program, [*command, "--format", str(own)], [short], tmp_path / "results.csv")
    command += ["--format", path.stem, "--agents"]
    for agents in mutants((SAMPLES / "agents.csv").read_bytes(), LISTED, chance, tmp_path, ".csv"):
        take_all(program, [*command, str(agents)], [short], tmp_path / "results.csv")
