"""Which files may be written: none that is read, none of the ledger's, none twice."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from importer.errors import ConfigurationError
from importer.files import STANDARD_INPUT
from importer.formats.catalogue import user_folder
from importer.ledger import ledger_files
from importer.results.parts import Parts
from importer.settings import Settings


def check_apart(
    settings: Settings, inputs: Sequence[Path | None] = (), outputs: Mapping[str, Path | None] | None = None
) -> None:
    """Find out before anything is read that an output would destroy a file that is needed.

    ``inputs`` are read beside the files that the settings name, None stands for none; ``outputs`` are by option,
    by default those of a run. Raises ConfigurationError for one that is another of these files, however spelt or
    linked.
    """
    taken = {key: what for what, path in _read(settings, inputs) for key in _keys(path)}
    if outputs is None:
        names = ("results", "rejects", "log", "metrics")
        outputs = {f"--{name}": getattr(settings, name) for name in names}
    for option, path in outputs.items():
        if path is None:
            continue
        places = [key for place in _written(option, path, len(inputs)) for key in _keys(place)]
        clash = next((taken[key] for key in places if key in taken), None)
        if clash is not None:
            raise ConfigurationError(
                f"{option} {path} is {clash}, which it would destroy", hint=f"Name another file with {option}."
            )
        taken.update(dict.fromkeys(places, f"the file of {option}"))


def rejects_path(chosen: Path, number: int) -> Path:
    """Return where the rejects of the ``number``-th kind of export go."""
    return chosen if number == 1 else chosen.with_name(f"{chosen.stem}-{number}{chosen.suffix}")


def _read(settings: Settings, inputs: Iterable[Path | None]) -> Iterator[tuple[str, Path]]:
    yield from (("the ledger or a file beside it", path) for path in ledger_files(settings.ledger))
    yield from (("a file that is read", path) for path in inputs if path is not None)
    format_file = Path(settings.format) if settings.format and settings.format.endswith(".toml") else None
    named = (
        ("agents", settings.agents),
        ("format", format_file),
        ("ca-bundle", settings.ca_bundle),
        ("config", settings.config),
    )
    for what, path in named:
        if path is not None:
            yield f"the file of --{what}", path
    yield from (("a file of your configuration", path) for path in user_folder().rglob("*.toml"))


def _written(option: str, path: Path, inputs: int) -> Iterator[Path]:
    yield path
    if option == "--results":
        yield from Parts(path).all()
    if option == "--rejects":
        yield from (rejects_path(path, number) for number in range(2, inputs + 1))


def _keys(path: Path) -> Iterator[object]:
    """Yield what two paths of one file have in common: the true path, and the file itself where there is one."""
    real = os.path.realpath("/dev/stdin" if path == STANDARD_INPUT else path)
    yield real
    with suppress(OSError):
        found = Path(real).stat()
        yield found.st_dev, found.st_ino
