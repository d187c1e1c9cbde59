"""Campaigns: groups of templates."""

from __future__ import annotations

from pico_async._boundary import boundary
from pico_async._engine import endpoints, listings, wire
from pico_async._engine.call import Engine
from pico_async._engine.endpoints import Request
from pico_async.errors import InvalidMessageError, Reason
from pico_async.models import Acknowledged, Campaign, CreatedCampaign, Listing
from pico_async.resources._arguments import text_of


@boundary
class CampaignsResource:
    """Campaigns: `pico.campaigns`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create(self, name: str, *, remark: str | None = None) -> CreatedCampaign:
        """
        Create a campaign.

        Args:
            name: 1 to 50 characters.
            remark: 0 to 255 characters.

        Raises:
            InvalidMessageError: An argument is too long or too short. Nothing was sent.
            RejectedError: Pico refused the request.
            InDoubtError: It may have been created. List before you repeat the call.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "Create Campaign".
        """
        body = wire.named(username=self._engine.account.username, name=_name(name), remark=_remark(remark))
        request = Request(endpoints.CREATE_CAMPAIGN, endpoints.CREATE_CAMPAIGN.path, body=body)
        return await self._engine.call(request, lambda payload: wire.decode(payload, CreatedCampaign))

    async def list(self) -> Listing[Campaign]:
        """
        Return all campaigns of the account, in one reply. Paging is not documented in v0.4.

        Raises:
            NotSentError: Pico was not reached.
            RejectedError: Pico refused the request.
            UnexpectedResponseError: The reply contains no list of campaigns.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "List Campaigns".
        """
        request = Request(endpoints.LIST_CAMPAIGNS, endpoints.LIST_CAMPAIGNS.path)
        return await self._engine.call(request, listings.decode_campaigns)

    async def update(self, campaign_id: str, *, name: str | None = None, remark: str | None = None) -> Acknowledged:
        """
        Change a campaign's name, its remark or both. None leaves a field unchanged.

        A request that may have been carried out is repeated, because it sets the same values again.

        Args:
            campaign_id: ID from `create` or `list`.
            name: 1 to 50 characters.
            remark: 0 to 255 characters. "" empties it.

        Raises:
            InvalidMessageError: An argument is wrong, or there is nothing to change. Nothing was sent.
            RejectedError: Pico refused the request.
            InDoubtError: The request may have been carried out.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "Update Campaign".
        """
        if name is None and remark is None:
            raise InvalidMessageError("Nothing to change: pass `name`, `remark` or both.", reason=Reason.MISSING)
        path = endpoints.UPDATE_CAMPAIGN.path_with(campaign_id=campaign_id)
        body = wire.named(name=None if name is None else _name(name), remark=_remark(remark))
        request = Request(endpoints.UPDATE_CAMPAIGN, path, body=body)
        return await self._engine.call(request, listings.decode_acknowledged)

    async def delete(self, campaign_id: str) -> Acknowledged:
        """
        Delete a campaign.

        A request that may have been carried out is repeated. If the repeat finds nothing, the deletion succeeded.

        Args:
            campaign_id: ID from `create` or `list`.

        Raises:
            InvalidMessageError: The ID is not valid. Nothing was sent.
            RejectedError: Pico refused the request.
            InDoubtError: The request may have been carried out.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "Delete Campaign".
        """
        path = endpoints.DELETE_CAMPAIGN.path_with(campaign_id=campaign_id)
        return await self._engine.call(Request(endpoints.DELETE_CAMPAIGN, path), listings.decode_acknowledged)


def _name(name: str) -> str:
    return text_of("name", name, shortest=1, longest=50)


def _remark(remark: str | None) -> str | None:
    return None if remark is None else text_of("remark", remark, shortest=0, longest=255)
