"""`pico campaigns`: list, show, create, change and delete campaigns, which are groups of templates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeAlias, TypeVar

import attrs
import typer

from pico_async.cli.account_options import AccountOptions, Json
from pico_async.cli.console import Yes, print_error, print_json, print_line, printable, require_yes
from pico_async.cli.listing import Column, print_fields, print_listing
from pico_async.models import Acknowledged, Campaign, Listing, Template

Item = TypeVar("Item", Campaign, Template)

CampaignId: TypeAlias = Annotated[
    str, typer.Argument(metavar="CAMPAIGN_ID", help="ID from `pico campaigns list`.", show_default=False)
]
Remark: TypeAlias = Annotated[str | None, typer.Option(metavar="TEXT", help="Up to 255 characters.")]

_COLUMNS = (Column("ID", whole=True), Column("NAME"), Column("REMARK"), Column("CREATED"))


def list_campaigns(account: AccountOptions, as_json: Json = False) -> None:
    """
    List the campaigns.

    Columns in a pipe, separated by tabs: ID, name, remark and time of creation.
    """
    campaigns = account.call(lambda pico: pico.campaigns.list())
    if as_json:
        print_list_json("campaigns", campaigns)
    elif not campaigns:
        print_line("There are no campaigns.")
    else:
        # A time of creation that could not be parsed is in `extra`, as it came.
        rows = [(it.id, it.name, it.remark, it.created_at or it.extra.get("created_at")) for it in campaigns]
        print_listing(_COLUMNS, rows)


def show_campaign(account: AccountOptions, campaign_id: CampaignId, as_json: Json = False) -> None:
    """
    Show all fields of one campaign.

    v0.4 has no request for a single campaign, so the command requests the whole list.
    """
    campaigns = account.call(lambda pico: pico.campaigns.list())
    print_item(find("campaign", campaigns, campaign_id), as_json=as_json)


def create_campaign(
    account: AccountOptions,
    name: Annotated[str, typer.Argument(metavar="NAME", help="1 to 50 characters.", show_default=False)],
    remark: Remark = None,
    as_json: Json = False,
) -> None:
    """Create a campaign, and print its ID."""
    created = account.call(lambda pico: pico.campaigns.create(name, remark=remark))
    if as_json:
        print_json({"campaign_id": created.campaign_id, "request_id": created.request_id, "extra": created.extra})
    else:
        print_line(printable(created.campaign_id))


def update_campaign(
    account: AccountOptions,
    campaign_id: CampaignId,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="1 to 50 characters.")] = None,
    remark: Annotated[str | None, typer.Option(metavar="TEXT", help="Up to 255 characters; '' removes it.")] = None,
    as_json: Json = False,
) -> None:
    """Change a campaign's name or remark."""
    done = account.call(lambda pico: pico.campaigns.update(campaign_id, name=name, remark=remark))
    acknowledge(done, "The campaign was updated.", as_json=as_json)


def delete_campaign(account: AccountOptions, campaign_id: CampaignId, yes: Yes = False, as_json: Json = False) -> None:
    """
    Delete a campaign, after a confirmation.

    v0.4 does not document what happens to its templates.
    """
    require_yes(
        f"Delete the campaign {printable(campaign_id)}? What happens to its templates is not documented.", given=yes
    )
    done = account.call(lambda pico: pico.campaigns.delete(campaign_id))
    acknowledge(done, "The campaign was deleted.", as_json=as_json)


def print_list_json(name: str, items: Listing[Any]) -> None:
    """Print a list of the API as JSON."""
    objects = [attrs.asdict(item, recurse=False) for item in items]
    print_json({name: objects, "request_id": items.request_id, "extra": items.extra})


def acknowledge(done: Acknowledged, message: str, *, as_json: bool) -> None:
    """Print that a change was made. v0.4 does not document the body of the reply, so the JSON has it as it came."""
    if as_json:
        print_json({"request_id": done.request_id, "extra": done.extra})
    else:
        print_line(message)


def find(kind: str, items: Iterable[Item], item_id: str) -> Item:
    """Return the item with an ID, or end the command with an error if Pico's list lacks it."""
    for item in items:
        if item.id == item_id:
            return item
    print_error(f"There is no {kind} {item_id} in Pico's list.")
    raise typer.Exit(1)


def print_item(item: Campaign | Template, *, as_json: bool) -> None:
    """Print all fields of one item, for people with those that v0.4 does not document at the end."""
    fields = attrs.asdict(item, recurse=False)
    if as_json:
        print_json(fields)
    else:
        extra = fields.pop("extra")
        print_fields({**fields, **extra})
