"""
The account's campaigns and templates, and the eight management operations on them.

Source: API reference v0.4, "Create Campaign" to "Delete Template".
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from attrs import asdict, evolve, frozen

from pico_async.sandbox.replies import Reply, success

TEMPLATE_STATUSES = ("pending", "approved", "rejected")

Ids = Mapping[str, str]
Body = Mapping[str, Any]


class RefusedError(Exception):
    """A valid request that the account refuses with 400. The text of the exception is the `errors` entry."""


@frozen
class Campaign:
    """A campaign, with the fields of the reference's "List Campaigns"."""

    id: str
    name: str
    remark: str | None
    created_at: str


@frozen
class Template:
    """A template, with the reference's names of its parameters; `type` and `created_at` are inventions."""

    id: str
    type: str
    campaignId: str  # noqa: N815  # the wire's spelling, which list-templates shows
    name: str
    content: str
    mediaUrl: str | None  # noqa: N815
    status: str
    created_at: str


def _now_text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Catalogue:
    """
    Campaigns and templates.

    Each operation takes the path parameters or the query (*ids*) and the checked *body*, and returns the reply.

    Own inventions, since v0.4 does not document them:

    - The body of list-templates.
    - The bodies of update, delete and create-template replies: a `request_id`, which is a new template's id.
    - With a campaign its templates are deleted.
    - A new template is approved at once.
    """

    def __init__(self, template_status: str) -> None:
        if template_status not in TEMPLATE_STATUSES:
            raise ValueError(f"template_status={template_status!r}: pass one of {', '.join(TEMPLATE_STATUSES)}.")
        self._template_status = template_status
        self._campaigns: dict[str, Campaign] = {}
        self._templates: dict[str, Template] = {}
        # Kept to show a message together with the template that it was sent with.
        self._deleted: dict[str, Template | Campaign] = {}

    def create_campaign(self, ids: Ids, body: Body) -> Reply:
        """Create a campaign, and return its id as request_id. Source: API reference v0.4, "AddCampaignResponse"."""
        campaign = Campaign(str(uuid4()), body["name"], body.get("remark"), _now_text())
        self._campaigns[campaign.id] = campaign
        return success(campaign.id)

    def list_campaigns(self, ids: Ids, body: Body) -> Reply:
        return success(campaigns=[asdict(campaign) for campaign in self._campaigns.values()])

    def update_campaign(self, ids: Ids, body: Body) -> Reply:
        """Change the name and the remark, as far as the body has them."""
        campaign = self._campaign(ids["campaign_id"])
        changes = {name: body[name] for name in ("name", "remark") if body.get(name) is not None}
        self._campaigns[campaign.id] = evolve(campaign, **changes)
        return success()

    def delete_campaign(self, ids: Ids, body: Body) -> Reply:
        campaign = self._campaign(ids["campaign_id"])
        self._deleted[campaign.id] = self._campaigns.pop(campaign.id)
        for template in [one for one in self._templates.values() if one.campaignId == campaign.id]:
            self._deleted[template.id] = self._templates.pop(template.id)
        return success()

    def create_sms(self, ids: Ids, body: Body) -> Reply:
        return self._create("sms", body, media_url=None)

    def create_mms(self, ids: Ids, body: Body) -> Reply:
        return self._create("mms", body, media_url=body.get("mediaUrl") or None)

    def list_templates(self, ids: Ids, body: Body) -> Reply:
        """Return the templates that pass both filters. The body of the reply is an invention."""
        campaign_id, status = ids.get("campaignId"), ids.get("status")
        if status is not None and status not in TEMPLATE_STATUSES:
            raise RefusedError(f"status: must be one of {', '.join(TEMPLATE_STATUSES)}.")
        return success(
            templates=[
                asdict(template)
                for template in self._templates.values()
                if campaign_id in (None, template.campaignId) and status in (None, template.status)
            ]
        )

    def delete_template(self, ids: Ids, body: Body) -> Reply:
        template = self._templates.pop(ids["template_id"], None)
        if template is None:
            raise RefusedError("templateId: unknown template.")
        self._deleted[template.id] = template
        return success()

    def check_approved(self, template_id: str) -> None:
        """Raise `RefusedError` for a template that is unknown or not approved."""
        template = self._templates.get(template_id)
        if template is None:
            raise RefusedError("templateId: unknown template.")
        if template.status != "approved":
            raise RefusedError(f"templateId: the template is {template.status}, not approved.")

    def template(self, template_id: str) -> Template | None:
        """Return a template, also a deleted one; None if it never existed."""
        found = self._templates.get(template_id) or self._deleted.get(template_id)
        return found if isinstance(found, Template) else None

    def campaign(self, campaign_id: str) -> Campaign | None:
        """Return a campaign, also a deleted one; None if it never existed."""
        found = self._campaigns.get(campaign_id) or self._deleted.get(campaign_id)
        return found if isinstance(found, Campaign) else None

    def is_deleted(self, some_id: str) -> bool:
        """Return whether a campaign or a template was deleted."""
        return some_id in self._deleted

    def review(self, template_id: str, status: str) -> None:
        """Set the status of a template, as Pico's review does; raise KeyError for an unknown one."""
        if status not in TEMPLATE_STATUSES:
            raise ValueError(f"status={status!r}: pass one of {', '.join(TEMPLATE_STATUSES)}.")
        self._templates[template_id] = evolve(self._templates[template_id], status=status)

    def _campaign(self, campaign_id: str) -> Campaign:
        try:
            return self._campaigns[campaign_id]
        except KeyError:
            raise RefusedError("campaignId: unknown campaign.") from None

    def _create(self, kind: str, body: Body, *, media_url: str | None) -> Reply:
        template = Template(
            id=str(uuid4()),
            type=kind,
            campaignId=self._campaign(body["campaignId"]).id,
            name=body["name"],
            content=body["content"],
            mediaUrl=media_url,
            status=self._template_status,
            created_at=_now_text(),
        )
        self._templates[template.id] = template
        return success(template.id)
