"""One run, top to bottom: detect, read, prepare, stage, deliver, report.

An export goes through `files` (names, patterns and folders; packed files unpacked), `formats` (which system wrote
it), `reading` (chunks of text with line numbers), `prepare` (chunks to calls and outcomes), `ledger` (every call
durable before the first is sent), `deliver` (batches through `client` under `pacing`) and `results` (the CSV
written back), of which `report` makes a page. `pipeline` wires the stages, `cli` is the only module that prints or
exits. Each module imports only those above it in this order:
errors, private_files, events, requirements, records, steps, settings, files, formats, reading, prepare, ledger,
pacing, auth, client, deliver, results, report, pipeline, watching, setup, cli; `simulator` imports nothing of
ours.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cdr-importer")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
