"""Single messages, the balance and the token."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer
from attrs import evolve, frozen

from pico_async._masking import mask
from pico_async.cli.account_options import AccountOptions, Callback, Json, Promotional, Region, Sender, Suppress
from pico_async.cli.blast.row_mapping import number_reader
from pico_async.cli.console import print_error, print_json, print_line
from pico_async.cli.suppression_file import read_suppressed
from pico_async.errors import ConfigurationError, InvalidMessageError, PicoError
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
from pico_async.numbers import destination

To: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="TO", help="Destination with country code, for example 8612345678901.", show_default=False),
]


@frozen
class SendOptions:
    """The options that all single messages have. typer reads them from these fields."""

    region: Region = None
    suppress: Suppress = None
    promotional: Promotional = True
    as_json: Json = False

    def destination(self, number: str) -> str:
        """Return a number as Pico takes it."""
        # Without a region only the format is checked, as in the library: no spreadsheet has damaged a typed number.
        return number if self.region is None else destination(number, region=self.region)


def send_sms(
    account: AccountOptions,
    options: SendOptions,
    to: To,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Message text.", show_default=False)] = None,
    template_id: Annotated[
        str | None, typer.Option(metavar="ID", help="ID of an approved template, instead of TEXT.")
    ] = None,
    sender: Sender = None,
    callback: Callback = None,
) -> None:
    """Send one text message."""
    message = SmsMessage(
        to=options.destination(to), text=text, template_id=template_id, promotional=options.promotional
    )
    _send(account.with_sender(sender=sender, callback=callback), options, message)


def send_mms(
    account: AccountOptions,
    options: SendOptions,
    to: To,
    media_url: Annotated[
        str, typer.Argument(metavar="MEDIA_URL", help="Address of the image, video or audio.", show_default=False)
    ],
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="Text that goes with the media.")] = None,
    sender: Sender = None,
) -> None:
    """Send one message with media."""
    message = MmsMessage(to=options.destination(to), media_url=media_url, text=text, promotional=options.promotional)
    _send(account.with_sender(sender=sender), options, message)


def send_voice(
    account: AccountOptions,
    options: SendOptions,
    to: To,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text to be spoken.", show_default=False)],
    lang: Annotated[str, typer.Option(metavar="CODE", help="Language, for example en-US or zh-CN.")] = "en-US",
) -> None:
    """Call a phone and read a text aloud."""
    message = VoiceMessage(to=options.destination(to), text=text, lang=lang, promotional=options.promotional)
    _send(account, options, message)


def _send(account: AccountOptions, options: SendOptions, message: Message) -> None:
    if message.promotional:
        read = number_reader(region=options.region, for_sandbox=True)
        account = evolve(account, suppression=read_suppressed(options.suppress, read=read))
    try:
        accepted = account.call(lambda pico: pico.send(message))
    except (ConfigurationError, InvalidMessageError):
        raise
    except PicoError as error:
        if options.as_json:
            print_json(
                {
                    "outcome": error.outcome,
                    "request_id": error.request_id,
                    "status_code": error.status_code,
                    "error": str(error),
                }
            )
        raise
    except KeyboardInterrupt:
        print_error("in doubt: interrupted. The message may have been sent.")
        raise typer.Exit(130) from None
    if options.as_json:
        print_json({"outcome": "accepted", "request_id": accepted.request_id})
    else:
        print_line(f"accepted: the message to {mask(message.to)}, request_id {accepted.request_id}")


def balance(account: AccountOptions, as_json: Json = False) -> None:
    """Print the remaining balance. Its currency or unit is not documented."""
    found = account.call(lambda pico: pico.balance.get())
    if as_json:
        fields = {"balance": str(found.balance), "username": found.username, "request_id": found.request_id}
        print_json({**fields, "extra": found.extra})
    else:
        print_line(str(found.balance))


def token(
    account: AccountOptions,
    show: Annotated[bool, typer.Option("--show", help="Print the token itself, and nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """Request a token, to check the account's username and API key."""
    received = account.call(lambda pico: pico.token.get())
    shown = {"token": received.token} if show else {}
    if as_json:
        print_json({"length": len(received.token), "request_id": received.request_id, **shown})
    else:
        print_line(received.token if show else f"A token of {len(received.token)} characters was received.")
