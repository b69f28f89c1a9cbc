"""Files that a run reads and files that it may write: none that is read, none of the ledger's, none twice."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from importer.errors import ConfigurationError, ExitCode, ImporterError
from importer.files.export import STANDARD_INPUT, NamedFiles
from importer.files.remote import is_remote
from importer.formats.catalogue import own_files, own_folders, user_folder
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.ledger.beside import ledger_files
from importer.pipeline.run import Run
from importer.private_files import whose
from importer.processes import begin_server
from importer.results.file import Parts, reasons_path
from importer.settings.options import Settings


def detect_inputs(run: Run, named: NamedFiles, problems: list[ImporterError]) -> list[Detection]:
    """Return the usable files; the errors of the others join ``problems``, our own results are passed over.

    Where the input is large enough for processes, their server is started here, before it is needed.
    """
    with suppress(OSError):  # which detection reports
        sizes = [path.stat().st_size for path in named.paths if path.is_file()]
        if run.processes(len(sizes), sum(sizes)) > 1:
            begin_server()
    formats = run.catalogue.candidates(run.settings.format)
    detections: list[Detection] = []
    problems += named.problems
    for problem in problems:
        run.listener.problem(problem)
    for note in named.notes:
        run.listener.note(note)
    for path in named.paths:
        run.stop_if_interrupted()
        try:
            found = detect(path, formats, run.settings, run.catalogue.lookalikes)
        except ImporterError as problem:
            if problem.exit_code not in (ExitCode.INPUT_UNUSABLE, ExitCode.NO_INPUT):
                raise
            problems.append(problem)
            run.listener.problem(problem)
            continue
        if found is None:
            run.listener.note(f"{path} is a results file of this program: passed over.")
            continue
        detections.append(found)
        if key := found.file.next_page:
            run.listener.note(f"{path}: {key} says that another page of calls follows: save all pages.")
    return detections


def inputs_json(detections: Sequence[Detection], rows: Mapping[Path, int]) -> str:
    """Return the usable files for the ledger: a JSON list of ``{file, sha256, bytes, rows}``.

    ``rows`` has the files that were read whole; the others have none. Taken after reading, when the file is still
    in the page cache: a file that grows meanwhile has the hash of the longer file.
    """
    records = []
    for each in detections:
        record: dict[str, object] = {"file": str(each.path), "sha256": None, "bytes": None}
        is_as_it_came = each.path == STANDARD_INPUT or (each.file.packing is None and not each.file.is_table)
        with suppress(OSError), each.file.open() if is_as_it_came else each.path.open("rb") as stream:
            record |= {"sha256": hashlib.file_digest(stream, "sha256").hexdigest(), "bytes": stream.tell()}
        records.append({**record, "rows": rows.get(each.path)})
    return json.dumps(records)


def check_apart(
    settings: Settings, inputs: Sequence[Path | None] = (), outputs: Mapping[str, Path | None] | None = None
) -> None:
    """Raise ConfigurationError where an output would destroy a file that is needed, before anything is read.

    ``inputs`` are read beside the files that the settings name, None is no file; ``outputs`` are by option,
    by default the outputs of a run. Each of these must be another file, however spelt or linked.
    """
    format_file = Path(settings.format) if settings.format and settings.format.endswith(".toml") else None
    named = {"agents": settings.agents, "format": format_file, "ca-bundle": settings.ca_bundle}
    named |= {"config": settings.config}
    folders = own_folders(settings.config)
    own = [*user_folder().glob("*.toml"), *own_files(folders, "formats"), *own_files(folders, "causes")]
    read: list[tuple[str, Path | None]] = [
        *(("the ledger or a file beside it", path) for path in ledger_files(settings.ledger)),
        *(("a file that is read", path) for path in inputs),
        *((f"the file of --{option}", path) for option, path in named.items()),
        *(("a file of your configuration", path) for path in own),
    ]
    taken = {key: role for role, path in read if path is not None for key in _keys(path)}
    if outputs is None:
        names = ("results", "rejects", "log", "metrics")
        outputs = {f"--{name}": getattr(settings, name) for name in names}
    for option, path in outputs.items():
        if path is None:
            continue
        written = [path]
        if option == "--results":
            written += Parts(path).all
        if option == "--rejects":
            written = rejects_files(path, max(1, len(inputs)))
        places = [key for place in written for key in _keys(place)]
        clash = next((taken[key] for key in places if key in taken), None)
        if clash is not None:
            raise ConfigurationError(
                f"{option} {path} is {clash}, which it would destroy", hint=f"Name another file with {option}."
            )
        taken.update(dict.fromkeys(places, f"the file of {option}"))


def rejects_files(chosen: Path, count: int) -> list[Path]:
    """Return the files that the rejects of so many kinds of export are written to, then those of their reasons."""
    further = (chosen.with_name(f"{chosen.stem}-{number}{chosen.suffix}") for number in range(2, count + 1))
    paths = [chosen, *further][:count]
    return [*paths, *map(reasons_path, paths)]


def fault_of_done(folder: Path, homes: Sequence[Path]) -> str:
    """Return why files of these folders cannot be moved into a folder, else an empty text."""
    if not folder.is_dir():
        return "is no folder" if folder.exists() else "is not there"
    if any(map(is_remote, homes)):
        return "gets no files of an address: only those of this machine are moved"
    if any(home.samefile(folder) for home in homes):
        return "is the folder of an export"
    if other := next((home for home in homes if home.stat().st_dev != folder.stat().st_dev), None):
        return f"is on another disk than {other}"
    return "" if os.access(folder, os.W_OK) else f"cannot be written to: {whose(folder)}"


def _keys(path: Path) -> Iterator[object]:
    """Yield the keys by which two paths of one file are found: the true path, and the file itself if it exists."""
    real = str(path) if is_remote(path) else os.path.realpath("/dev/stdin" if path == STANDARD_INPUT else path)
    yield real
    with suppress(OSError):
        found = Path(real).stat()
        yield found.st_dev, found.st_ino
