"""A run from files to results.

`stages` has the order of a run, `run` its settings, time and listener; `inputs` the files that are read and may be
written; `intake` reads files into calls and takes these into the ledger; `outlook` puts calls in order and asks
before any is sent; `sending` sends them; `ending` has fates, counts and exit code; `dead_runs` the results that
runs left which died. `intake` loads pandas, half a second and 100 MB, and `sending` requests: a command that reads
no files or sends nothing goes without.
"""
