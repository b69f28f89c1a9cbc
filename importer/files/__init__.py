"""Names on the command line to bytes: files, patterns, folders, standard input, plain or packed.

`naming` finds what a name stands for, `export` opens one file, `packing` says how it is packed and unpacks it,
`spooling` keeps bytes that cannot be read twice. Nothing here loads pandas; only zstd loads pyarrow.
"""

from importer.files.export import STANDARD_INPUT, ExportFile, open_export
from importer.files.naming import NamedFiles, named_files
from importer.files.packing import sql_dump
from importer.files.spooling import Limits

__all__ = ["STANDARD_INPUT", "ExportFile", "Limits", "NamedFiles", "named_files", "open_export", "sql_dump"]
