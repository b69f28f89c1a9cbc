"""Who of PhoneBridge's users is which line of the agents file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from importer.client import User
from importer.formats.cells import caseless
from importer.prepare.agents import AgentLine

KEYS = ("zohouser", "email", "name", "extension", "number")


@dataclass(frozen=True, slots=True)
class Match:
    """A user and the lines of the agents file that are theirs; ``by`` names what they share, empty without any."""

    user: User
    lines: tuple[AgentLine, ...]
    by: str


def match_users(users: Sequence[User], lines: Sequence[AgentLine]) -> list[Match]:
    """Return every user with their lines: those with their id, else with their e-mail, else with their name.

    The service lists id, e-mail and name only; a name may also be an extension or number of the agents file.
    """
    return [_matched(user, lines) for user in users]


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


def _matched(user: User, lines: Sequence[AgentLine]) -> Match:
    keys: Mapping[str, str] = {
        "zohouser": user.zohouser,
        "email": user.email,
        "name": user.name,
        "extension": user.name,
        "number": user.name,
    }
    for key in KEYS:
        wanted = caseless(keys[key])
        found = tuple(line for line in lines if wanted and _is_free(line, user) and _cell(line, key) == wanted)
        if found:
            return Match(user, found, key)
    return Match(user, (), "")


def _cell(line: AgentLine, key: str) -> str:
    return caseless(str(getattr(line, key)))


def _is_free(line: AgentLine, user: User) -> bool:
    """Return whether a line may be this user's: the id in it, if there is one, outranks every likeness."""
    return line.zohouser in ("", user.zohouser)
