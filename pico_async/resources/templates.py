"""Templates: message bodies that Pico approves before they are used."""

from __future__ import annotations

from pico_async._boundary import boundary
from pico_async._engine import endpoints, listings, wire
from pico_async._engine.call import Engine
from pico_async._engine.endpoints import Request
from pico_async.errors import InvalidMessageError, Reason
from pico_async.messages import is_web_address
from pico_async.models import Acknowledged, Listing, Template
from pico_async.resources._arguments import text_of


@boundary
class TemplatesResource:
    """Templates: `pico.templates`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create_sms(self, campaign_id: str, name: str, content: str) -> Acknowledged:
        """
        Submit an SMS template for approval.

        The reply's body is not documented in v0.4, and may not contain the template's ID. Find it with `list`.

        Args:
            campaign_id: ID of the campaign that the template belongs to.
            name: Name of the template.
            content: Text of the template, with `{{var}}` for variables.

        Raises:
            InvalidMessageError: An argument is wrong. Nothing was sent.
            RejectedError: Pico refused the request.
            InDoubtError: It may have been created. List before you repeat the call.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "Create SMS Template".
        """
        body = wire.named(
            username=self._engine.account.username,
            campaign_id=text_of("campaign_id", campaign_id),
            name=text_of("name", name),
            content=text_of("content", content),
        )
        request = Request(endpoints.CREATE_SMS_TEMPLATE, endpoints.CREATE_SMS_TEMPLATE.path, body=body)
        del body, content  # an error reporter in a listener may show the variables of each frame
        return await self._engine.call(request, listings.decode_acknowledged)

    async def create_mms(
        self, campaign_id: str, name: str, content: str, *, media_url: str | None = None
    ) -> Acknowledged:
        """
        Submit an MMS template for approval.

        The reply's body is not documented in v0.4, and may not contain the template's ID. Find it with `list`.

        The arguments are those of `create_sms`, and *media_url*: the URL of the image or video file.

        Raises:
            InvalidMessageError: An argument is wrong. Nothing was sent.
            RejectedError: Pico refused the request.
            InDoubtError: It may have been created. List before you repeat the call.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "Create MMS Template".
        """
        if media_url is not None and not is_web_address(media_url):
            raise InvalidMessageError(
                "`media_url` is not a web address. Pass one such as 'https://example.com/path'.",
                argument="media_url",
                reason=Reason.FORMAT,
            )
        body = wire.named(
            username=self._engine.account.username,
            campaign_id=text_of("campaign_id", campaign_id),
            name=text_of("name", name),
            content=text_of("content", content),
            media_url=None if media_url is None else self._engine.account.reachable("media_url", media_url),
        )
        request = Request(endpoints.CREATE_MMS_TEMPLATE, endpoints.CREATE_MMS_TEMPLATE.path, body=body)
        del body, content  # an error reporter in a listener may show the variables of each frame
        return await self._engine.call(request, listings.decode_acknowledged)

    async def list(self, *, campaign_id: str | None = None, status: str | None = None) -> Listing[Template]:
        """
        Return the templates of the account.

        The reply's body is not documented in v0.4, so unknown fields of a template are kept.

        Args:
            campaign_id: Return only templates of this campaign.
            status: Return only templates that are "pending", "approved" or "rejected".

        Raises:
            InvalidMessageError: An argument is wrong. Nothing was sent.
            NotSentError: Pico was not reached.
            RejectedError: Pico refused the request.
            UnexpectedResponseError: The reply contains no list.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "List Templates".
        """
        query = wire.named(
            campaign_id=None if campaign_id is None else text_of("campaign_id", campaign_id),
            status=None if status is None else text_of("status", status),
        )
        request = Request(endpoints.LIST_TEMPLATES, endpoints.LIST_TEMPLATES.path, query=query)
        return await self._engine.call(request, listings.decode_templates)

    async def delete(self, template_id: str) -> Acknowledged:
        """
        Delete a template.

        A request that may have been carried out is repeated. If the repeat finds nothing, the deletion succeeded.

        Args:
            template_id: ID from `list`.

        Raises:
            InvalidMessageError: The ID is not valid. Nothing was sent.
            RejectedError: Pico refused the request.
            InDoubtError: The request may have been carried out.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "Delete Template".
        """
        path = endpoints.DELETE_TEMPLATE.path_with(template_id=template_id)
        return await self._engine.call(Request(endpoints.DELETE_TEMPLATE, path), listings.decode_acknowledged)
