"""One command for each of Pico's operations."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import attrs
import typer

from pico_async.cli.console import printable, say, say_json, say_table, tell_error
from pico_async.cli.session import Callback, Json, Sender, Settings
from pico_async.errors import ConfigurationError, InvalidMessageError, PicoError
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
from pico_async.models import Acknowledged, Campaign, Listing, Template
from pico_async.numbers import mask

To: TypeAlias = Annotated[
    str, typer.Argument(metavar="TO", help="Destination with country code, as 8612345678901.", show_default=False)
]
CampaignId: TypeAlias = Annotated[str, typer.Argument(metavar="CAMPAIGN_ID", show_default=False)]
TemplateId: TypeAlias = Annotated[str, typer.Argument(metavar="TEMPLATE_ID", show_default=False)]
Remark: TypeAlias = Annotated[str | None, typer.Option(metavar="TEXT", help="Up to 255 characters.")]


def send_sms(
    settings: Settings,
    to: To,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What they get.", show_default=False)] = None,
    template_id: Annotated[
        str | None, typer.Option(metavar="ID", help="ID of an approved template, in place of TEXT.")
    ] = None,
    as_json: Json = False,
    sender: Sender = None,
    callback: Callback = None,
) -> None:
    """Send one text message."""
    message = SmsMessage(to=to, text=text, template_id=template_id)
    _send(settings.sending(sender=sender, callback=callback), message, as_json=as_json)


def send_mms(
    settings: Settings,
    to: To,
    media_url: Annotated[
        str, typer.Argument(metavar="MEDIA_URL", help="Address of the image, video or audio.", show_default=False)
    ],
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="What they get with it.")] = None,
    as_json: Json = False,
    sender: Sender = None,
) -> None:
    """Send one message with media."""
    _send(settings.sending(sender=sender), MmsMessage(to=to, media_url=media_url, text=text), as_json=as_json)


def send_voice(
    settings: Settings,
    to: To,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is spoken.", show_default=False)],
    lang: Annotated[str, typer.Option(metavar="CODE", help="Language, as en-US or zh-CN.")] = "en-US",
    as_json: Json = False,
) -> None:
    """Have one text read out on the phone."""
    _send(settings, VoiceMessage(to=to, text=text, lang=lang), as_json=as_json)


def _send(settings: Settings, message: Message, *, as_json: bool) -> None:
    try:
        accepted = settings.call(lambda pico: pico.send(message))
    except (ConfigurationError, InvalidMessageError):
        raise
    except PicoError as error:
        if as_json:
            say_json(
                {
                    "outcome": error.outcome,
                    "request_id": error.request_id,
                    "status_code": error.status_code,
                    "error": str(error),
                }
            )
        raise
    except KeyboardInterrupt:
        tell_error("in doubt: interrupted. The message may have been sent.")
        raise typer.Exit(130) from None
    if as_json:
        say_json({"outcome": "accepted", "request_id": accepted.request_id})
    else:
        say(f"accepted: the message to {mask(message.to)}, request_id {accepted.request_id}")


def balance(settings: Settings, as_json: Json = False) -> None:
    """Ask what credit remains. Its currency or unit is not documented."""
    found = settings.call(lambda pico: pico.balance.get())
    if as_json:
        say_json({"balance": str(found.balance), "username": found.username, "request_id": found.request_id})
    else:
        say(str(found.balance))


def token(
    settings: Settings,
    show: Annotated[bool, typer.Option("--show", help="Print the token itself, and nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """Obtain a token, to see whether the account's settings are right."""
    obtained = settings.call(lambda pico: pico.token.get())
    shown = {"token": obtained.token} if show else {}
    if as_json:
        say_json({"length": len(obtained.token), "request_id": obtained.request_id, **shown})
    else:
        say(obtained.token if show else f"A token of {len(obtained.token)} characters was obtained.")


def list_campaigns(settings: Settings, as_json: Json = False) -> None:
    """List the campaigns."""
    campaigns = settings.call(lambda pico: pico.campaigns.list())
    _list("campaigns", campaigns, ("id", "name", "remark", "created_at"), as_json=as_json)


def create_campaign(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="1 to 50 characters.", show_default=False)],
    remark: Remark = None,
    as_json: Json = False,
) -> None:
    """Create a campaign, and print its ID."""
    created = settings.call(lambda pico: pico.campaigns.create(name, remark=remark))
    if as_json:
        say_json({"campaign_id": created.campaign_id, "request_id": created.request_id})
    else:
        say(printable(created.campaign_id))


def update_campaign(
    settings: Settings,
    campaign_id: CampaignId,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="1 to 50 characters.")] = None,
    remark: Remark = None,
    as_json: Json = False,
) -> None:
    """Change a campaign's name or remark."""
    done = settings.call(lambda pico: pico.campaigns.update(campaign_id, name=name, remark=remark))
    _acknowledge(done, "The campaign was updated.", as_json=as_json)


def delete_campaign(settings: Settings, campaign_id: CampaignId, as_json: Json = False) -> None:
    """Delete a campaign."""
    done = settings.call(lambda pico: pico.campaigns.delete(campaign_id))
    _acknowledge(done, "The campaign was deleted.", as_json=as_json)


def list_templates(
    settings: Settings,
    campaign_id: Annotated[str | None, typer.Option(metavar="ID", help="Only those of one campaign.")] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only those that are pending, approved or rejected.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the templates."""
    templates = settings.call(lambda pico: pico.templates.list(campaign_id=campaign_id, status=status))
    _list("templates", templates, ("id", "name", "status", "campaign_id", "content"), as_json=as_json)


def create_sms_template(
    settings: Settings,
    campaign_id: CampaignId,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    content: Annotated[str, typer.Argument(metavar="TEXT", help="With {{var}} for variables.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Hand in a template for text messages. Its ID is in `pico templates list`."""
    done = settings.call(lambda pico: pico.templates.create_sms(campaign_id, name, content))
    _acknowledge(done, "The template was handed in.", as_json=as_json)


def create_mms_template(
    settings: Settings,
    campaign_id: CampaignId,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    content: Annotated[str, typer.Argument(metavar="TEXT", show_default=False)],
    media_url: Annotated[str | None, typer.Option(metavar="URL", help="Address of the image or video.")] = None,
    as_json: Json = False,
) -> None:
    """Hand in a template for messages with media. Its ID is in `pico templates list`."""
    done = settings.call(lambda pico: pico.templates.create_mms(campaign_id, name, content, media_url=media_url))
    _acknowledge(done, "The template was handed in.", as_json=as_json)


def delete_template(settings: Settings, template_id: TemplateId, as_json: Json = False) -> None:
    """Delete a template."""
    done = settings.call(lambda pico: pico.templates.delete(template_id))
    _acknowledge(done, "The template was deleted.", as_json=as_json)


def _acknowledge(done: Acknowledged, said: str, *, as_json: bool) -> None:
    if as_json:
        say_json({"request_id": done.request_id})
    else:
        say(said)


def _list(
    what: str, listing: Listing[Campaign] | Listing[Template], columns: tuple[str, ...], *, as_json: bool
) -> None:
    if as_json:
        say_json({what: [attrs.asdict(item) for item in listing], "request_id": listing.request_id})
    elif not listing:
        say(f"There are no {what}.")
    else:
        say_table(columns, ([getattr(item, column) for column in columns] for item in listing))
