"""`pico templates`: create, list, show and delete templates, and wait for their approval."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import attrs
import typer

from pico_async.cli.account_options import AccountOptions, Json
from pico_async.cli.campaigns import CampaignId, acknowledge, find, print_item, print_list_json
from pico_async.cli.console import Yes, print_error, print_json, print_line, print_note, printable, require_yes
from pico_async.cli.format import format_duration
from pico_async.cli.listing import Column, print_listing
from pico_async.errors import ConfigurationError, NotSentError, RateLimitError, ServerError
from pico_async.models import Template
from pico_async.session import PicoSession

TemplateId: TypeAlias = Annotated[
    str, typer.Argument(metavar="TEMPLATE_ID", help="ID from `pico templates list`.", show_default=False)
]
Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
Content: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="TEXT", help="Template text, with {{var}} for variables.", show_default=False)
]
ContentFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", allow_dash=True, help="Read the text from this UTF-8 file, or '-' for stdin."
    ),
]

# No template is longer, so a larger file is the wrong file.
_MAX_BYTES = 64 * 1024


class TemplateStatus(StrEnum):
    """The statuses that v0.4 documents."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


_STYLES = {"pending": "yellow", "approved": "green", "rejected": "bold red"}
_ID = Column("ID", whole=True)
_CAMPAIGN = Column("CAMPAIGN", whole=True)
_REST = (Column("STATUS", one_line=True, styles=_STYLES), Column("NAME"), Column("TEXT", one_line=True))


def list_templates(
    account: AccountOptions,
    campaign_id: Annotated[str | None, typer.Option(metavar="ID", help="Only templates of this campaign.")] = None,
    status: Annotated[TemplateStatus | None, typer.Option(help="Only templates with this status.")] = None,
    as_json: Json = False,
) -> None:
    """
    List the templates, by campaign.

    Columns in a pipe, separated by tabs: ID, campaign ID, status, name and text. v0.4 does not document the fields of
    the list; a field that Pico did not send is empty.
    """
    templates = account.call(
        lambda pico: pico.templates.list(campaign_id=campaign_id, status=None if status is None else status.value)
    )
    if as_json:
        print_list_json("templates", templates)
    elif not templates:
        print_line(
            "There are no templates." if campaign_id is None and status is None else "There are no such templates."
        )
    elif sys.stdout.isatty():
        _print_by_campaign(templates)
    else:
        print_listing((_ID, _CAMPAIGN, *_REST), [(it.id, it.campaign_id, *_rest(it)) for it in templates])


def _print_by_campaign(templates: Iterable[Template]) -> None:
    groups: dict[str | None, list[Template]] = {}
    for template in templates:
        groups.setdefault(template.campaign_id, []).append(template)
    for number, (campaign_id, members) in enumerate(groups.items()):
        if number:
            print_line()
        print_line(f"Campaign {printable(campaign_id)}" if campaign_id else "No campaign ID")
        print_listing((_ID, *_REST), [(it.id, *_rest(it)) for it in members])


def _rest(template: Template) -> tuple[object, ...]:
    return template.status, template.name, template.content


def show_template(account: AccountOptions, template_id: TemplateId, as_json: Json = False) -> None:
    """
    Show all fields of one template, with its whole text.

    v0.4 has no request for a single template, so the command requests the whole list.
    """
    templates = account.call(lambda pico: pico.templates.list())
    print_item(find("template", templates, template_id), as_json=as_json)


def create_sms_template(
    account: AccountOptions,
    campaign_id: CampaignId,
    name: Name,
    content: Content = None,
    file: ContentFile = None,
    as_json: Json = False,
) -> None:
    """
    Create a template for text messages, which Pico then has to approve.

    v0.4 does not document whether the reply has the template's ID: see `pico templates list`.
    """
    text = _content(content, file, account)
    done = account.call(lambda pico: pico.templates.create_sms(campaign_id, name, text))
    acknowledge(done, "The template was submitted for approval.", as_json=as_json)


def create_mms_template(
    account: AccountOptions,
    campaign_id: CampaignId,
    name: Name,
    content: Content = None,
    file: ContentFile = None,
    media_url: Annotated[str | None, typer.Option(metavar="URL", help="Address of the image or video.")] = None,
    as_json: Json = False,
) -> None:
    """
    Create a template for messages with media, which Pico then has to approve.

    v0.4 does not document whether the reply has the template's ID: see `pico templates list`.
    """
    text = _content(content, file, account)
    done = account.call(lambda pico: pico.templates.create_mms(campaign_id, name, text, media_url=media_url))
    acknowledge(done, "The template was submitted for approval.", as_json=as_json)


def delete_template(account: AccountOptions, template_id: TemplateId, yes: Yes = False, as_json: Json = False) -> None:
    """Delete a template, after a confirmation."""
    require_yes(f"Delete the template {printable(template_id)}?", given=yes)
    done = account.call(lambda pico: pico.templates.delete(template_id))
    acknowledge(done, "The template was deleted.", as_json=as_json)


def wait_for_template(
    account: AccountOptions,
    template_id: TemplateId,
    every: Annotated[
        float,
        typer.Option(
            metavar="S", min=1, help="Seconds between two requests. v0.4 documents no rate limit for them, so use few."
        ),
    ] = 30.0,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="S", min=0, help="Stop waiting after this many seconds; without it, wait without end."),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Wait until Pico has approved a template.

    People at Pico decide, which may take hours. Each check requests the list of templates.

    Exit codes: 0, it is approved; 1, it is rejected, missing or not decided in time.
    """
    template = account.call(lambda pico: decided(pico, template_id, every_s=every, timeout_s=timeout))
    if as_json:
        print_json(attrs.asdict(template, recurse=False))
    elif template.status == TemplateStatus.APPROVED:
        print_line("approved")
    if template.status != TemplateStatus.APPROVED:
        print_error(f"Pico has not approved the template: it is {template.status}.")
        raise typer.Exit(1)


async def decided(pico: PicoSession, template_id: str, *, every_s: float, timeout_s: float | None) -> Template:
    """
    Request a template until it is approved or rejected, and return it.

    End the command with an error if it is missing, has no status, or is not decided in time.
    """
    ends_at = None if timeout_s is None else time.monotonic() + timeout_s
    known: str | None = None
    while True:
        try:
            template = find("template", await pico.templates.list(), template_id)
        except (NotSentError, RateLimitError, ServerError) as error:
            # The wait may take hours, so a network fault in between does not end it.
            print_note(f"The status is not known yet, and is requested again: {printable(str(error))}")
        else:
            if not template.status:
                print_error("Pico's list has no status for the template, so there is nothing to wait for.")
                raise typer.Exit(1)
            if template.status in (TemplateStatus.APPROVED, TemplateStatus.REJECTED):
                return template
            if template.status != known:
                known = template.status
                interval = format_duration(every_s)
                print_note(f"The template is {printable(known)}. Checking every {interval}; Ctrl-C ends only the wait.")
        if ends_at is not None and time.monotonic() + every_s > ends_at:
            print_error(
                f"The template is {known or 'not known'}, and was not decided within {format_duration(timeout_s or 0)}."
            )
            raise typer.Exit(1)
        await asyncio.sleep(every_s)


def _content(given: str | None, file: Path | None, account: AccountOptions) -> str:
    """Return the text of the argument or of the file, without one line break at its end."""
    if (given is None) == (file is None):
        raise ConfigurationError("Pass either the template's text or --file FILE.")
    if file is None:
        return given or ""
    if str(file) == "-" and account.api_key_file == "-":
        raise ConfigurationError("The API key and the text cannot both come from stdin.")
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with file.open("rb") as opened:
                content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"The text cannot be read from {file}: {error.strerror}.") from None
    if len(content) > _MAX_BYTES:
        raise ConfigurationError(f"{file} has more than {_MAX_BYTES // 1024} KiB, which is too long for a template.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"The text cannot be read from {file}: it is not UTF-8 text.") from None
    return text.removesuffix("\n").removesuffix("\r")
