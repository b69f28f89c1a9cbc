"""Names on the command line to bytes: files, patterns, folders, standard input, plain or packed.

`export` finds the files of a name and opens them, `packing` recognises how it is packed and unpacks it,
`workbooks` and `json_objects` make rows of sheets and objects, `spooling` keeps bytes that cannot be read twice.
Nothing here loads pandas; only zstd loads pyarrow, and only a workbook loads calamine.
"""
