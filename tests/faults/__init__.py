"""Faults of the list, played one by one."""
