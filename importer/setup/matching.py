"""Who of PhoneBridge's users is which line of the agents file."""

from collections.abc import Sequence
from dataclasses import replace

from importer.client import User
from importer.formats.cells import caseless
from importer.prepare.agents import AgentLine

Match = tuple[User, tuple[AgentLine, ...], str]
"""A user, the lines of the agents file that are theirs, and the column that they share, "" without any line."""


def match_users(users: Sequence[User], lines: Sequence[AgentLine]) -> list[Match]:
    """Return every user with their lines: those with their id, else with their e-mail, else with their name.

    The service lists id, e-mail and name only; a name may also be an extension or number of the agents file. The
    id in a line, if there is one, outranks every likeness.
    """
    matches: list[Match] = []
    for user in users:
        match: Match = (user, (), "")
        free = [line for line in lines if line.zohouser in ("", user.zohouser)]
        for key in ("zohouser", "email", "name", "extension", "number"):
            wanted = caseless(getattr(user, key, user.name))
            found = tuple(line for line in free if wanted and caseless(getattr(line, key)) == wanted)
            if found:
                match = (user, found, key)
                break
        matches.append(match)
    return matches


def with_users(lines: Sequence[AgentLine], matches: Sequence[Match]) -> list[AgentLine]:
    """Return the lines of the agents file with the ids of the users that they match, where they have none."""
    ids = {line: user.zohouser for user, theirs, _ in matches for line in theirs}
    return [line if line.zohouser else replace(line, zohouser=ids.get(line, "")) for line in lines]
