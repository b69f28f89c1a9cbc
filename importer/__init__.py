"""One run, top to bottom: detect, read, prepare, stage, deliver, report.

An export goes through `files` (names, patterns and folders; packed files unpacked), `formats` (which system wrote
it), `reading` (chunks of text with line numbers), `prepare` (chunks to calls and outcomes), `ledger` (every call
durable before the first is sent), `client` (under `pacing`) and `results` (the CSV written back), of which
`report` makes a page. `pipeline` wires the stages and sends, `cli` is the only module that prints or exits. Each
module imports only those above it in this order:
errors, private_files, requirements, records, settings, processes, files, formats, reading, prepare, ledger,
pacing, auth, client, results, report, pipeline, watching, setup, cli; `simulator` imports nothing of ours.
"""

from functools import cache

__version__: str


@cache
def __getattr__(name: str) -> str:
    """Return ``__version__`` when it is asked for: reading the metadata costs `--help` a third of its time."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cdr-importer")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"
