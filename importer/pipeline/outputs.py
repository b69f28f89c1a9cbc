"""Which files a run may write: never where its ledger stands, or is about to be made."""

from pathlib import Path

from importer.errors import CannotCreateError
from importer.ledger import ledger_files
from importer.pipeline.run import Run


def check_apart(run: Run, target: Path) -> None:
    """Raise CannotCreateError when results or rejects are to stand at the place of a file of the ledger."""
    places = set(ledger_files(run.settings.ledger))
    for path, kind in ((target, "results"), (run.settings.rejects, "rejects")):
        if path is not None and path.parent.resolve() / path.name in places:
            raise CannotCreateError(
                f"{kind} file {path} is the place of the ledger or of a file beside it",
                hint=f"Name another with --{kind}.",
            )
