"""From the names on the command line to files: files, folders, patterns that no shell has replaced."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from importer.errors import NoInputError
from importer.files.export import STANDARD_INPUT

UNFINISHED_SUFFIX = ".part"
"""End of the name of our own results until they are whole, and of files that many programs are still writing."""


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """The files to be read, each once; notes for a person; errors of names without a file.

    ``beside`` is the file beside which results go by default, None for the working folder.
    """

    paths: tuple[Path, ...]
    beside: Path | None
    notes: tuple[str, ...]
    problems: tuple[NoInputError, ...]


def named_files(names: Sequence[Path]) -> NamedFiles:
    """Return the files of the names, in the order of the names; files of a folder or pattern are sorted by name.

    A folder gives the files right in it, without hidden ones. A pattern (`*`, `?`, `[...]`) gives the files that
    match, unless a file has the pattern itself for a name.
    """
    paths: dict[Path, Path] = {}
    notes: list[str] = []
    problems: list[NoInputError] = []
    for name in names:
        try:
            for path in _files_of(name, notes):
                if path.absolute() in paths:
                    notes.append(f"{path} is named twice: read once.")
                paths.setdefault(path.absolute(), path)
        except NoInputError as problem:
            problems.append(problem)
    found = tuple(paths.values())
    return NamedFiles(found, _beside(found or names), tuple(notes), tuple(problems))


def _beside(names: Sequence[Path]) -> Path | None:
    first = next((name for name in names if name != STANDARD_INPUT), None)
    if first is None or not _is_pattern(first) or first.exists():
        return first
    return None if _is_pattern(first.parent) else first.with_name("cdr-importer")


def _files_of(name: Path, notes: list[str]) -> Iterator[Path]:
    """Yield the files of one name; a plain name is a file even if it does not exist: opening it fails then."""
    if name == STANDARD_INPUT:
        yield name
    elif name.is_dir():
        yield from _whole(_files_in(name, notes), name, notes)
    elif _is_pattern(name) and not name.exists():
        matches = (Path(match) for match in glob.glob(str(name)))  # noqa: PTH207 Path.glob drops `./` and keeps no `..`
        yield from _whole(sorted(match for match in matches if match.is_file()), name, notes)
    else:
        yield name


def _is_pattern(name: Path) -> bool:
    return glob.has_magic(str(name))


def _files_in(folder: Path, notes: list[str]) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise NoInputError(f"{folder} cannot be read: {error.strerror}", hint="Check its rights.") from error
    notes += [f"{entry} is a folder inside a folder: passed over." for entry in entries if entry.is_dir()]
    return [entry for entry in entries if entry.is_file()]


def _whole(files: list[Path], name: Path, notes: list[str]) -> list[Path]:
    """Leave out files that are still being written.

    Raises NoInputError when no file is left: a night job that finds no export must not be silent.
    """
    unfinished = [file for file in files if file.suffix == UNFINISHED_SUFFIX]
    notes += [f"{file} is still being written (its name ends in .part): passed over." for file in unfinished]
    whole = [file for file in files if file.suffix != UNFINISHED_SUFFIX]
    if not whole:
        raise NoInputError(
            f"no file in folder {name}" if name.is_dir() else f"no file matches {name}",
            hint="Check the path, and whether the telephone system has written its export.",
        )
    return whole
