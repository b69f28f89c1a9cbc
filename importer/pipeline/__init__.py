"""A run from files to results.

`stages` has the order of a run, `run` its settings, time and listener, and the question before any call is sent.
`inputs` has the files that are read and those that may be written. `intake` reads files into calls, takes these
into the ledger; `alarms` looks at the input as a whole. `sending` sends the calls. `ending` has fates, counts and
the exit code. `dead_runs` finishes the results of runs that died, `calls_list` looks uncertain calls up in a list
from Zoho. `intake` loads pandas, half a second and 100 MB, and `sending` requests: a command that reads no files
or sends nothing does not import them.
"""
