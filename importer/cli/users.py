"""The command `users`: who of PhoneBridge's users is which agent."""

import os
from pathlib import Path
from typing import Any

import click

from importer.cli.options import CONFIG, HOSTS, given, options
from importer.cli.saying import say, say_lines
from importer.cli.signing_in import account_of
from importer.cli.tables import aligned
from importer.errors import ExitCode


@click.command("users", short_help="List PhoneBridge's users, and who of them no agent is.")
@options(CONFIG, HOSTS)
@click.option("--agents", metavar="FILE", help="Agents file: CSV extension,number,zohouser,email,name.")
@click.option("--write", "target", type=click.Path(path_type=Path), help="Write an agents file to complete.")
def users_command(target: Path | None, **flags: Any) -> int:
    """List PhoneBridge's users and match them to the agents file, by id, e-mail or name.

    Ends with 3 if the agents file names a user that PhoneBridge does not list: those calls would be refused.
    """
    from importer.pipeline import check_apart
    from importer.prepare.agents import agent_lines, agents_text
    from importer.settings import load_settings
    from importer.setup.config_file import write_new
    from importer.setup.matching import completed_agents, match_users, unknown_zohousers

    settings = load_settings(given(flags), os.environ)
    check_apart(settings, outputs={"--write": target})
    lines = agent_lines(settings.agents, settings.encoding) if settings.agents else []
    account, tokens, _ = account_of(settings, is_fresh=False)
    users = account.users(tokens.token())
    matches = match_users(users, lines)
    rows = [(match.user.zohouser, _agent_words(match), match.user.name, match.user.email) for match in matches]
    say_lines(aligned(("user", "agent", "name", "e-mail"), rows))
    for agent in (unknown := unknown_zohousers(users, lines)):
        say(f"not a user: {agent.zohouser} of extension {agent.extension or '-'}; calls would be refused")
    unmapped = sum(not match.lines for match in matches)
    say(f"{len(users)} users, {unmapped} without a line in the agents file")
    if target:
        write_new(target, agents_text(completed_agents(matches, lines)))
        say(f"wrote {target}: complete extension and number, then name it with --agents")
    return int(ExitCode.PARTIAL if unknown else ExitCode.OK)


def _agent_words(match: Any) -> str:
    if not match.lines:
        return "none"
    extensions = "+".join(line.extension or "?" for line in match.lines)
    return extensions if match.by == "zohouser" else f"{extensions} by {match.by}"
