"""The rows to be mended, verbatim: one file for each kind of export among the inputs."""

from collections.abc import Iterator, Sequence

from importer.errors import CannotCreateError, ImporterError, InputUnusableError
from importer.formats import Detection
from importer.pipeline.inputs import Inputs
from importer.pipeline.outputs import rejects_path
from importer.pipeline.run import Run
from importer.reading import verbatim_records
from importer.results import Finished, check_free, defused, write_rejects

_Kind = tuple[str, str, str, int, tuple[str, ...]]


def _kind(detection: Detection) -> _Kind:
    """Return what rows must have in common to stand in one file that can be imported again."""
    quotes = detection.quotes.value
    return detection.format.name, detection.delimiter, quotes, detection.field_count, detection.header


def check_rejects(run: Run, inputs: Inputs) -> None:
    """Find out before anything is sent that the rejects could not be written.

    Raises CannotCreateError for a path that is taken or whose folder is not there.
    """
    chosen = run.settings.rejects
    if chosen is None:
        return
    for number in range(1, len({_kind(detection) for detection in inputs.detections}) + 1):
        check_free(rejects_path(chosen, number), "rejects")


def write_mendable(run: Run, inputs: Inputs, finished: Finished) -> list[ImporterError]:
    """Write the rows to be mended, one file for each kind of export among the inputs.

    Returns what kept files from being written, told by then: the calls are sent, so it does not break the run off.
    """
    chosen = run.settings.rejects
    if chosen is None:
        return []
    by_kind: dict[_Kind, list[tuple[Detection, Sequence[int]]]] = {}
    for detection in inputs.detections:
        lines = finished.to_mend.get(defused(inputs.names[detection.path]))
        if lines:
            by_kind.setdefault(_kind(detection), []).append((detection, lines))
    problems: list[ImporterError] = []
    for number, parts in enumerate(by_kind.values(), start=1):
        try:
            write_rejects(rejects_path(chosen, number), _verbatim(parts))
        except CannotCreateError as problem:
            run.listener.problem(problem)
            problems.append(problem)
    return problems


def _verbatim(parts: Sequence[tuple[Detection, Sequence[int]]]) -> Iterator[str]:
    """Yield the header once, then the records of these lines as they stand in their files."""
    with_header = True
    for detection, lines in parts:
        try:
            for record in verbatim_records(detection, lines):
                if record.line != detection.header_line or with_header:
                    yield record.text
        except (OSError, InputUnusableError) as error:
            raise CannotCreateError(
                f"no rejects are written: {detection.path} was removed or changed after it was read",
                hint="The results name its rows. Import it once more with --rejects: nothing is sent twice.",
            ) from error
        with_header = False
