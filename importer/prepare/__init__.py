"""Chunks of text to calls and outcomes: evidence of each row, one call out of its rows, agents, ids, validity."""
