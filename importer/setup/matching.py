"""Who of PhoneBridge's users is which line of the agents file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from importer.client import User
from importer.formats.cells import caseless
from importer.prepare.agents import AgentLine


@dataclass(frozen=True, slots=True)
class Match:
    """A user and the lines of the agents file that are theirs; ``by`` names what they share, empty without any."""

    user: User
    lines: tuple[AgentLine, ...]
    by: str


def match_users(users: Sequence[User], lines: Sequence[AgentLine]) -> list[Match]:
    """Return every user with their lines: those with their id, else with their e-mail, else with their name.

    The service lists id, e-mail and name only; a name may also be an extension or number of the agents file. The
    id in a line, if there is one, outranks every likeness.
    """
    matches = []
    for user in users:
        match = Match(user, (), "")
        free = [line for line in lines if line.zohouser in ("", user.zohouser)]
        for key in ("zohouser", "email", "name", "extension", "number"):
            wanted = caseless(getattr(user, key, user.name))
            found = tuple(line for line in free if wanted and caseless(getattr(line, key)) == wanted)
            if found:
                match = Match(user, found, key)
                break
        matches.append(match)
    return matches


def unknown_zohousers(users: Sequence[User], lines: Sequence[AgentLine]) -> list[AgentLine]:
    """Return the lines whose zohouser the service does not list: calls with it would be refused."""
    known = {user.zohouser for user in users}
    return [line for line in lines if line.zohouser and line.zohouser not in known]


def completed_agents(matches: Sequence[Match], lines: Sequence[AgentLine]) -> list[AgentLine]:
    """Return the agents file to complete: the lines as they stand with ids found, then users without a line."""
    ids = {line: match.user.zohouser for match in matches for line in match.lines}
    known = [line if line.zohouser else replace(line, zohouser=ids.get(line, "")) for line in lines]
    missing = [
        AgentLine("", "", match.user.zohouser, match.user.email, match.user.name)
        for match in matches
        if not match.lines
    ]
    return [*known, *missing]
