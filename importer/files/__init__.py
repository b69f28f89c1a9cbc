"""Names on the command line to bytes: files, patterns, folders, standard input, plain or packed.

`naming` finds the files of a name, `export` opens one file, `packing` recognises how it is packed and unpacks it,
`workbooks` and `json_objects` make rows of sheets and objects, `spooling` keeps bytes that cannot be read twice.
Nothing here loads pandas; only zstd loads pyarrow, and only a workbook loads calamine.
"""

from importer.files.export import STANDARD_INPUT, ExportFile, open_export, open_tables, readable, without_rows
from importer.files.naming import NamedFiles, named_files
from importer.files.packing import sql_dump
from importer.files.remote import is_remote, path_of
from importer.files.spooling import SpoolLimits, temporary_folder, temporary_writes
from importer.files.workbooks import EMPTY_COLUMNS

__all__ = [
    "EMPTY_COLUMNS",
    "STANDARD_INPUT",
    "ExportFile",
    "NamedFiles",
    "SpoolLimits",
    "is_remote",
    "named_files",
    "open_export",
    "open_tables",
    "path_of",
    "readable",
    "sql_dump",
    "temporary_folder",
    "temporary_writes",
    "without_rows",
]
