"""Which of the files named can be used, and how each is to be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from importer.errors import ExitCode, ImporterError
from importer.formats import Catalogue, Detection, OwnOutput, detect
from importer.formats.detection import Overrides
from importer.pipeline.run import Run
from importer.settings import Settings


@dataclass(frozen=True, slots=True)
class Inputs:
    """The usable input files, and what was wrong with the others."""

    detections: tuple[Detection, ...]
    names: Mapping[Path, str]
    problems: tuple[ImporterError, ...]


def detect_inputs(run: Run, paths: Sequence[Path]) -> Inputs:
    """Detect every file; a file that is not usable is a problem told at once, results files are passed over."""
    overrides = overrides_of(run.settings, run.catalogue)
    detections, problems = [], []
    for path in paths:
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
    return Inputs(tuple(detections), {found.path: str(found.path) for found in detections}, tuple(problems))


def overrides_of(settings: Settings, catalogue: Catalogue) -> Overrides:
    """Return what the operator says about the files, over what detection finds."""
    chosen = catalogue.pick(settings.format) if settings.format else None
    return Overrides(chosen, settings.encoding, settings.delimiter)
