"""What a night job leaves for machines: a log, metrics for a textfile collector, pings of a dead man's switch.

None of them can change what a run does or its exit code once it has begun; that a log or metrics file cannot be
written at all is found out before (73). None of them holds a number, a name or a secret.
"""

from importer.watching.log import LogFile
from importer.watching.ping import Ping
from importer.watching.watch import Watch

__all__ = ["LogFile", "Ping", "Watch"]
