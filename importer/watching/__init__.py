"""Log, metrics for a textfile collector and pings of a dead man's switch, for a night job.

None of them can change a run or its exit code once it has begun; a log or metrics file that cannot be written at
all ends the run before that (73). None of them holds a number, a name or a secret.
"""

from importer.watching.watch import LogFile, Watch

__all__ = ["LogFile", "Watch"]
