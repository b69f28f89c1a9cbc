"""Stands before the real one, which pandera loads where it is there: the program is installed without it."""

raise ImportError
