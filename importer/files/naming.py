"""From the names on the command line to files: files, folders, patterns that no shell has replaced."""

import glob
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from importer.errors import NoInputError
from importer.files.export import STANDARD_INPUT
from importer.files.remote import is_remote, unread_hint
from importer.private_files import why
from schemas.vocabulary import counted

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
    match, unless a file has the pattern itself for a name; one called `*.csv` is among those that match. Marks of
    open workbooks are in neither.
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
        except OSError as error:
            problems.append(NoInputError(f"{name} cannot be read: {why(error, name)}", hint=unread_hint(name)))
    found = tuple(paths.values())
    beside = next((name for name in found or names if name != STANDARD_INPUT and not is_remote(name)), None)
    if beside is not None and glob.has_magic(str(beside)) and not beside.exists():
        beside = None if glob.has_magic(str(beside.parent)) else beside.with_name("cdr-importer")
    return NamedFiles(found, beside, tuple(notes), tuple(problems))


def _files_of(name: Path, notes: list[str]) -> list[Path]:
    """Return the whole files of one name; a plain name is a file even if it does not exist: opening it fails then.

    Raises NoInputError for a folder or pattern without any, OSError where it cannot be read.
    """
    if name != STANDARD_INPUT and name.is_dir():
        entries = sorted(entry for entry in name.iterdir() if not entry.name.startswith("."))
        if folders := [entry.name for entry in entries if entry.is_dir()]:
            notes.append(f"{counted(len(folders), 'folder')} in {name} passed over: {', '.join(folders)}.")
    elif is_remote(name) and glob.has_magic(str(name)) and not name.is_file():
        entries = sorted(each for each in name.parent.iterdir() if fnmatch(each.name, name.name))
    elif not is_remote(name) and glob.has_magic(str(name)) and ("*" in name.name or not name.exists()):
        with suppress(FileNotFoundError, NotADirectoryError):  # a folder that cannot be read matches nothing
            os.scandir(name.parent).close()
        entries = sorted(Path(match) for match in glob.glob(str(name)))  # noqa: PTH207 Path.glob drops `./` and keeps no `..`
    else:
        return [name]
    # Excel marks a workbook that someone has open with a file beside it, which is no export: `~$calls.xlsx`.
    files = [entry for entry in entries if entry.is_file() and not entry.name.startswith("~$")]
    unfinished = [file for file in files if file.name.endswith(UNFINISHED_SUFFIX)]
    notes += [f"{file} is still being written (its name ends in .part): passed over." for file in unfinished]
    if len(files) == len(unfinished):
        # A night job that finds no export must not be silent.
        raise NoInputError(
            f"no file in folder {name}" if name.is_dir() else f"no file matches {name}",
            hint="Check the path, and whether the telephone system has written its export.",
        )
    return [file for file in files if file not in unfinished]
