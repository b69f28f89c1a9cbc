"""What a night job tells machines: a log, metrics for a textfile collector, pings of a dead man's switch.

None of them can change what a run does or its exit code once it has begun; that a log or metrics file cannot be
written at all is found out before (73). Nothing in here tells a number, a name or a secret.
"""

from importer.monitoring.log import LogFile
from importer.monitoring.metrics import METRICS
from importer.monitoring.ping import Ping
from importer.monitoring.watch import Watch

__all__ = ["METRICS", "LogFile", "Ping", "Watch"]
