"""From a file and its detection to chunks of text: every record with its physical line, nothing guessed."""

from importer.reading.blocks import parts_of
from importer.reading.chunks import CHUNK_ROWS, BadRow, Chunk, read_chunks, verbatim_records
from importer.reading.conditions import Conditions, Extensions

__all__ = [
    "CHUNK_ROWS",
    "BadRow",
    "Chunk",
    "Conditions",
    "Extensions",
    "parts_of",
    "read_chunks",
    "verbatim_records",
]
