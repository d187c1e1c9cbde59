"""Single messages, the balance and the token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from attrs import evolve

from pico_async.cli.account_options import AccountOptions, Callback, Json, Promotional, Region, Sender, Suppress
from pico_async.cli.blast.row_mapping import number_reader
from pico_async.cli.console import print_error, print_json, print_line
from pico_async.cli.suppression_file import read_suppressed
from pico_async.errors import ConfigurationError, InvalidMessageError, PicoError
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
from pico_async.numbers import destination, mask

To: TypeAlias = Annotated[
    str, typer.Argument(metavar="TO", help="Destination with country code, as 8612345678901.", show_default=False)
]


def send_sms(
    account: AccountOptions,
    to: To,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What they get.", show_default=False)] = None,
    template_id: Annotated[
        str | None, typer.Option(metavar="ID", help="ID of an approved template, in place of TEXT.")
    ] = None,
    region: Region = None,
    suppress: Suppress = None,
    promotional: Promotional = True,
    as_json: Json = False,
    sender: Sender = None,
    callback: Callback = None,
) -> None:
    """Send one text message."""
    message = SmsMessage(to=_read(to, region), text=text, template_id=template_id, promotional=promotional)
    known = _asking(account.with_sender(sender=sender, callback=callback), suppress, region, message)
    _send(known, message, as_json=as_json)


def send_mms(
    account: AccountOptions,
    to: To,
    media_url: Annotated[
        str, typer.Argument(metavar="MEDIA_URL", help="Address of the image, video or audio.", show_default=False)
    ],
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="What they get with it.")] = None,
    region: Region = None,
    suppress: Suppress = None,
    promotional: Promotional = True,
    as_json: Json = False,
    sender: Sender = None,
) -> None:
    """Send one message with media."""
    message = MmsMessage(to=_read(to, region), media_url=media_url, text=text, promotional=promotional)
    _send(_asking(account.with_sender(sender=sender), suppress, region, message), message, as_json=as_json)


def send_voice(
    account: AccountOptions,
    to: To,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is spoken.", show_default=False)],
    lang: Annotated[str, typer.Option(metavar="CODE", help="Language, as en-US or zh-CN.")] = "en-US",
    region: Region = None,
    suppress: Suppress = None,
    promotional: Promotional = True,
    as_json: Json = False,
) -> None:
    """Have one text read out on the phone."""
    message = VoiceMessage(to=_read(to, region), text=text, lang=lang, promotional=promotional)
    _send(_asking(account, suppress, region, message), message, as_json=as_json)


def _read(number: str, region: str | None) -> str:
    # Without a region by its shape alone, as in a program: a single number was typed, and not made by a spreadsheet.
    return number if region is None else destination(number, region=region)


def _asking(account: AccountOptions, suppress: Path | None, region: str | None, message: Message) -> AccountOptions:
    """Have the session ask for the opt-outs, where there is a file of them and they count."""
    if not message.promotional:
        return account
    return evolve(account, suppression=read_suppressed(suppress, read=number_reader(region=region, for_sandbox=True)))


def _send(account: AccountOptions, message: Message, *, as_json: bool) -> None:
    try:
        accepted = account.call(lambda pico: pico.send(message))
    except (ConfigurationError, InvalidMessageError):
        raise
    except PicoError as error:
        if as_json:
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
    if as_json:
        print_json({"outcome": "accepted", "request_id": accepted.request_id})
    else:
        print_line(f"accepted: the message to {mask(message.to)}, request_id {accepted.request_id}")


def balance(account: AccountOptions, as_json: Json = False) -> None:
    """Ask what credit remains. Its currency or unit is not documented."""
    found = account.call(lambda pico: pico.balance.get())
    if as_json:
        told = {"balance": str(found.balance), "username": found.username, "request_id": found.request_id}
        print_json({**told, "extra": found.extra})
    else:
        print_line(str(found.balance))


def token(
    account: AccountOptions,
    show: Annotated[bool, typer.Option("--show", help="Print the token itself, and nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """Obtain a token, to see whether the account's settings are right."""
    obtained = account.call(lambda pico: pico.token.get())
    shown = {"token": obtained.token} if show else {}
    if as_json:
        print_json({"length": len(obtained.token), "request_id": obtained.request_id, **shown})
    else:
        print_line(obtained.token if show else f"A token of {len(obtained.token)} characters was obtained.")
