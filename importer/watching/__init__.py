"""Log, metrics and pings for a night job; none of them holds a number, a name or a secret.

None changes a run or its exit code once it has begun; what cannot be written at all ends the run before (73).
"""
