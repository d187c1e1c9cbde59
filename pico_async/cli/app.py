"""The tree of commands, and the exit code and output of each error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pico_async import __version__
from pico_async.cli import resources
from pico_async.cli.account_options import with_account_options
from pico_async.cli.blast.signals import InterruptedEarlyError
from pico_async.cli.console import print_error, print_line, print_note
from pico_async.cli.format import format_outcome
from pico_async.cli.sandbox import MissingExtraError, sandbox_command
from pico_async.cli.signature import with_option_class
from pico_async.errors import ConfigurationError, InvalidMessageError, PicoError

# In the order of the help.
COMMANDS = (
    "demo",
    "doctor",
    "blast",
    "balance",
    "token",
    "sandbox",
    "sms",
    "mms",
    "voice",
    "campaigns",
    "templates",
    "journal",
    "fleet",
)


def _add(name: str, to: typer.Typer) -> None:
    """Import a command, or a group of commands, and add it. To import all of them takes a third of a short command."""
    match name:
        case "demo":
            from pico_async.cli.demo import demo

            to.command(name)(demo)
        case "doctor":
            from pico_async.cli.doctor.command import doctor

            to.command(name)(with_account_options(doctor))
        case "blast":
            from pico_async.cli.blast.command import EXIT_CODES, blast
            from pico_async.cli.blast.options import BlastOptions

            to.command(name, epilog=EXIT_CODES)(with_account_options(with_option_class(blast, BlastOptions)))
        case "sms":
            _add_group(to, name, "Text messages.", send=_single(resources.send_sms))
        case "mms":
            _add_group(to, name, "Messages with media.", send=_single(resources.send_mms))
        case "voice":
            title = "Texts that are read aloud in a phone call."
            _add_group(to, name, title, send=_single(resources.send_voice))
        case "balance":
            to.command(name)(with_account_options(resources.balance))
        case "token":
            to.command(name)(with_account_options(resources.token))
        case "campaigns":
            from pico_async.cli import campaigns

            _add_group(
                to,
                name,
                "Groups of templates.",
                list=with_account_options(campaigns.list_campaigns),
                show=with_account_options(campaigns.show_campaign),
                create=with_account_options(campaigns.create_campaign),
                update=with_account_options(campaigns.update_campaign),
                delete=with_account_options(campaigns.delete_campaign),
            )
        case "templates":
            from pico_async.cli import templates

            _add_group(
                to,
                name,
                "Message bodies that Pico approves before use.",
                list=with_account_options(templates.list_templates),
                show=with_account_options(templates.show_template),
                create_sms=with_account_options(templates.create_sms_template),
                create_mms=with_account_options(templates.create_mms_template),
                wait=with_account_options(templates.wait_for_template),
                delete=with_account_options(templates.delete_template),
            )
        case "journal":
            from pico_async.cli import journal

            _add_group(
                to,
                name,
                "The journal of a bulk send, and its messages in doubt.",
                show=journal.show,
                in_doubt=journal.in_doubt,
                mark_sent=journal.mark_sent,
                resend=journal.resend,
            )
        case "fleet":
            from pico_async.cli import fleet

            _add_group(to, name, "Processes that share one rate limit and one token over Redis.", status=fleet.status)
        case "sandbox":
            to.command(name)(sandbox_command)


def _single(send: Callable[..., None]) -> Callable[..., None]:
    return with_account_options(with_option_class(send, resources.SendOptions))


def _add_group(to: typer.Typer, name: str, title: str, **commands: Callable[..., Any]) -> None:
    group = typer.Typer(no_args_is_help=True, help=title)
    for command, function in commands.items():
        group.command(command.replace("_", "-"))(function)
    to.add_typer(group, name=name)


class Commands(TyperGroup):
    """The commands. Each error of pico_async becomes one line, never a traceback, which could contain personal data."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Replaced when it is asked for.
        self.commands: dict[str, Any] = dict.fromkeys(COMMANDS, TyperCommand(None))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command that is imported now, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        part = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)
        _add(cmd_name, part)
        self.commands[cmd_name] = typer.main.get_group(part).commands[cmd_name]
        return self.commands[cmd_name]

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and convert an error to a line and an exit code."""
        try:
            return super().invoke(ctx)
        except MissingExtraError as error:
            print_error(str(error))
            code = 1
        except (ConfigurationError, InvalidMessageError) as error:
            print_error(str(error))
            code = 2
        except PicoError as error:
            print_error(f"{format_outcome(error.outcome)}: {error}")
            code = 1
        except InterruptedEarlyError as error:
            print_note("Nothing was sent.")
            print_error("interrupted.")
            code = 128 + error.signal
        except KeyboardInterrupt:
            print_error("interrupted.")
            code = 130
        raise typer.Exit(code)


app: typer.Typer = typer.Typer(
    name="pico",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # typer's tracebacks would print the local variables: messages, numbers, the key.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        print_line(f"pico_async {__version__}")
        raise typer.Exit


@app.callback()
def _pico(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """
    Send SMS, MMS and voice messages with Pico Cloud: a single one, or a million in bulk.

    Start with `pico demo`: it needs no account.
    """


def run() -> None:
    """Run the command line of this process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        # An output without UTF-8 shows '?' for missing characters, and does not end the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Completion is installed for the script's own name.
    app(prog_name="pico-async" if Path(sys.argv[0]).stem == "pico-async" else "pico")
