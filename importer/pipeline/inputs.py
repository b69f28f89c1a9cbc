"""Which of the files named can be used, how each is to be read, and what tells the file read from another."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from importer.errors import ExitCode, ImporterError
from importer.files import ExportFile, NamedFiles
from importer.formats import Catalogue, Detection, OwnOutput, detect
from importer.formats.dates import DateOrder
from importer.formats.detection import Overrides
from importer.pipeline.run import Run
from importer.results import as_text
from importer.settings import Settings


@dataclass(frozen=True, slots=True)
class Inputs:
    """The usable input files, and what was wrong with the others."""

    detections: tuple[Detection, ...]
    names: Mapping[Path, str]
    problems: tuple[ImporterError, ...]


def detect_inputs(run: Run, named: NamedFiles) -> Inputs:
    """Detect every file; a file that is not usable is a problem told at once, results files are passed over."""
    overrides = overrides_of(run.settings, run.catalogue)
    detections: list[Detection] = []
    problems: list[ImporterError] = [*named.problems]
    for problem in problems:
        run.listener.problem(problem)
    for note in named.notes:
        run.listener.note(note)
    for path in named.paths:
        run.stop_if_interrupted()
        try:
            found = detect(path, list(run.catalogue.formats.values()), overrides, run.catalogue.lookalikes)
        except ImporterError as problem:
            if problem.exit_code not in (ExitCode.INPUT_UNUSABLE, ExitCode.NO_INPUT):
                raise
            problems.append(problem)
            run.listener.problem(problem)
            continue
        if isinstance(found, OwnOutput):
            run.listener.note(f"{path} is a results file of this program: passed over.")
        else:
            detections.append(found)
    return inputs_of(detections, problems)


def inputs_of(detections: list[Detection], problems: list[ImporterError]) -> Inputs:
    """Return usable files and problems, with the names that the files have in the results: those given."""
    names = {found.path: as_text(str(found.path)) for found in detections}
    return Inputs(tuple(detections), names, tuple(problems))


def inputs_json(inputs: Inputs, rows: Mapping[Path, int]) -> str:
    """Return the usable files as the ledger keeps them: a JSON list of ``{file, sha256, bytes, rows}``.

    ``rows`` has those that were read whole; the others have none. Taken after reading, when the file is still in
    the page cache: a file that grows meanwhile has the hash of what it grew to.
    """
    return json.dumps([_input_record(each.file, rows.get(each.path)) for each in inputs.detections])


def _input_record(file: ExportFile, rows: int | None) -> dict[str, object]:
    record: dict[str, object] = {"file": str(file.path), "sha256": None, "bytes": None, "rows": rows}
    with suppress(OSError), file.open_as_it_came() as stream:
        record["sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
        record["bytes"] = stream.tell()
    return record


def overrides_of(settings: Settings, catalogue: Catalogue) -> Overrides:
    """Return what the operator says about the files, over what detection finds."""
    chosen = catalogue.pick(settings.format) if settings.format else None
    order = DateOrder(settings.date_order) if settings.date_order else None
    return Overrides(chosen, settings.encoding, settings.delimiter, order, settings.sheet)
