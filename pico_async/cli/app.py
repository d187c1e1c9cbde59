"""The tree of commands, and the exit code and output of each error."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pico_async import __version__
from pico_async.cli import campaigns, fleet, journal, resources, templates
from pico_async.cli.account_options import with_account_options
from pico_async.cli.blast.command import EXIT_CODES, blast
from pico_async.cli.blast.options import BlastOptions
from pico_async.cli.blast.signals import InterruptedEarlyError
from pico_async.cli.console import print_error, print_line, print_note
from pico_async.cli.demo import demo
from pico_async.cli.doctor.command import doctor
from pico_async.cli.format import format_outcome
from pico_async.cli.sandbox import MissingExtraError, sandbox_command
from pico_async.cli.signature import with_option_class
from pico_async.errors import ConfigurationError, InvalidMessageError, PicoError


class Commands(TyperGroup):
    """The commands. Each error of pico_async becomes one line, never a traceback, which could contain personal data."""

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


app.command("demo")(demo)
app.command("doctor")(with_account_options(doctor))
app.command("blast", epilog=EXIT_CODES)(with_account_options(with_option_class(blast, BlastOptions)))


def _group(name: str, title: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=title)
    app.add_typer(group, name=name)
    return group


_sms = _group("sms", "Text messages.")
_sms.command("send")(with_account_options(with_option_class(resources.send_sms, resources.SendOptions)))
_mms = _group("mms", "Messages with media.")
_mms.command("send")(with_account_options(with_option_class(resources.send_mms, resources.SendOptions)))
_voice = _group("voice", "Texts that are read aloud in a phone call.")
_voice.command("send")(with_account_options(with_option_class(resources.send_voice, resources.SendOptions)))

app.command("balance")(with_account_options(resources.balance))
app.command("token")(with_account_options(resources.token))

_campaigns = _group("campaigns", "Groups of templates.")
_campaigns.command("list")(with_account_options(campaigns.list_campaigns))
_campaigns.command("show")(with_account_options(campaigns.show_campaign))
_campaigns.command("create")(with_account_options(campaigns.create_campaign))
_campaigns.command("update")(with_account_options(campaigns.update_campaign))
_campaigns.command("delete")(with_account_options(campaigns.delete_campaign))

_templates = _group("templates", "Message bodies that Pico approves before use.")
_templates.command("list")(with_account_options(templates.list_templates))
_templates.command("show")(with_account_options(templates.show_template))
_templates.command("create-sms")(with_account_options(templates.create_sms_template))
_templates.command("create-mms")(with_account_options(templates.create_mms_template))
_templates.command("wait")(with_account_options(templates.wait_for_template))
_templates.command("delete")(with_account_options(templates.delete_template))

_journal = _group("journal", "The journal of a bulk send, and its messages in doubt.")
_journal.command("show")(journal.show)
_journal.command("in-doubt")(journal.in_doubt)
_journal.command("mark-sent")(journal.mark_sent)
_journal.command("resend")(journal.resend)

_fleet = _group("fleet", "Processes that share one rate limit and one token over Redis.")
_fleet.command("status")(fleet.status)

app.command("sandbox")(sandbox_command)


def run() -> None:
    """Run the command line of this process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        # An output without UTF-8 shows '?' for missing characters, and does not end the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Completion is installed for the script's own name.
    app(prog_name="pico-async" if Path(sys.argv[0]).stem == "pico-async" else "pico")
