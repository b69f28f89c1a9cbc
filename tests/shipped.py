"""The manual page and the completions that the wheel brings along, made from the program's own help.

``python tests/shipped.py`` writes them anew; `test_docs` says whether they are what the program says.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from importer.cli import cli  # noqa: E402 - a script of a checkout, installed or not
from importer.cli.options import HEADINGS  # noqa: E402
from importer.settings.options import OPTIONS  # noqa: E402

FOLDER = ROOT / "importer" / "share"
SHELLS: Mapping[str, type[ShellComplete]] = {
    "bash/cdr-importer": BashComplete,
    "zsh/_cdr-importer": ZshComplete,
    "fish/cdr-importer.fish": FishComplete,
}
FILES = """
.SH FILES
Linux; other systems have folders of their own for these.
.TP
.I ~/.config/cdr\\-importer/cdr\\-importer.toml
The config file, with \\fIcredentials.toml\\fR, \\fIformats/\\fR and \\fIcauses/\\fR beside it.
.TP
.I ~/.local/state/cdr\\-importer/ledger.sqlite
The ledger, unless \\fB\\-\\-ledger\\fR names another place."""


def shipped() -> dict[str, str]:
    """Return the text of each file by its path in `importer/share`."""
    texts = {"man/cdr-importer.1": "\n".join(manual()) + "\n"}
    for name, shell in SHELLS.items():
        complete = shell(cli, {}, "cdr-importer", "_CDR_IMPORTER_COMPLETE")
        texts[name] = complete.source_template % complete.source_vars()
    return texts


def commands(group: click.Group, parent: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    """Yield every command that does something, those in groups too, each with its context."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, parent=parent, info_name=name)
        if isinstance(command, click.Group):
            yield from commands(command, context)
        else:
            yield context, command


def manual() -> Iterator[str]:
    """Yield the lines of the manual page, in the language of man(7)."""
    top = click.Context(cli, info_name="cdr-importer")
    summary, _, rest = (cli.help or "").partition("\n")
    yield '.TH CDR\\-IMPORTER 1 "" cdr\\-importer "User Commands"'
    yield f".SH NAME\ncdr\\-importer \\- {roff(summary[:1].lower() + summary[1:].rstrip('.'))}"
    yield ".SH SYNOPSIS\n.B cdr\\-importer\n.I COMMAND\n.RI [ OPTION ...]\n.RI [ ARGUMENT ...]"
    yield f".SH DESCRIPTION\n{paragraphs(rest)}"
    yield ".SH COMMANDS"
    for context, command in commands(cli, top):
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        yield f'.SS "{roff(usage)}"\n{paragraphs(command.help or "")}'
        options = [each for each in command.params if isinstance(each, click.Option) and each.name != "config"]
        shared = [each for each in options if each.opts[0].removeprefix("--") in OPTIONS]
        for option in options:
            if option not in shared:
                yield definition(*(option.get_help_record(context) or ("", "")))
        if shared:
            names = (f"\\fB{roff(each.opts[0])}\\fR" for each in shared)
            yield f".PP\nBelow, under OPTIONS: {', '.join(names)}."
    yield (
        ".SH OPTIONS\nEach comes from the command line, else from the environment variable CDR_IMPORTER_ and its "
        "name in capitals, else from the config file.\n"
        + definition("--config FILE", "TOML file with options. Default: in the user's config folder.")
    )
    for heading, names in HEADINGS.items():
        yield f'.SS "{heading}"'
        for name in names:
            option = OPTIONS[name]
            letter = f"-{option.letter}, " if option.letter else ""
            yield definition(f"{letter}--{name} {option.metavar}".rstrip(), option.help)
    yield ".SH EXIT STATUS\nThe most severe one wins."
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Exit codes\n")[1].split("\n## ")[0]
    for codes, when, todo in re.findall(r"^\| (\d[\d, ]*) \| (.*) \| (.*) \|$", table, re.MULTILINE):
        yield definition(codes, f"{when}. What to do: {todo}.".replace("`", ""))
    yield FILES.strip()


def definition(term: str, text: str) -> str:
    """Return a term with what it means."""
    return f".TP\n.B {roff(term)}\n{roff(text)}"


def paragraphs(text: str) -> str:
    """Return a docstring's paragraphs."""
    found = (" ".join(each.split()) for each in text.split("\n\n"))
    return "\n.PP\n".join(roff(each) for each in found if each)


def roff(text: str) -> str:
    """Return text as roff shows it as it stands: its escapes, hyphens and controls at the start of a line."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    for name, text in shipped().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
