"""Templates: message bodies that Pico approves beforehand."""

from __future__ import annotations

from collections.abc import Callable

from pico_async._boundary import boundary
from pico_async._engine import endpoints, wire
from pico_async._engine import listings as holdings
from pico_async._engine.call import Engine
from pico_async._engine.endpoints import Request
from pico_async.errors import InvalidMessageError
from pico_async.messages import is_web_address
from pico_async.models import Acknowledged, Listing, Template
from pico_async.resources._arguments import text_of


@boundary
class TemplatesResource:
    """Templates: `pico.templates`."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    async def create_sms(self, campaign_id: str, name: str, content: str) -> Acknowledged:
        """
        Hand in a template for text messages for approval.

        The reply's body is not documented in v0.4, so whether it carries the template's ID is unknown: find it with
        `list`.

        Args:
            campaign_id: Campaign that it belongs to.
            name: Its name.
            content: Its text, with `{{var}}` for variables.

        Raises:
            InvalidMessageError: An argument is wrong; nothing was sent.
            RejectedError: Pico refused it.
            InDoubtError: It may have been created: list before you repeat it.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "Create SMS Template".
        """
        engine = self._engine()
        body = wire.named(
            username=engine.account.username,
            campaign_id=text_of("campaign_id", campaign_id),
            name=text_of("name", name),
            content=text_of("content", content),
        )
        request = Request(endpoints.CREATE_SMS_TEMPLATE, endpoints.CREATE_SMS_TEMPLATE.path, body=body)
        del body, content  # what listens may report its stack, with the locals of each frame
        return await engine.call(request, holdings.decode_acknowledged)

    async def create_mms(
        self, campaign_id: str, name: str, content: str, *, media_url: str | None = None
    ) -> Acknowledged:
        """
        Hand in a template for messages with media.

        The reply's body is not documented in v0.4, so whether it carries the template's ID is unknown: find it with
        `list`.

        Args:
            campaign_id: Campaign that it belongs to.
            name: Its name.
            content: Its text.
            media_url: Address of the image or video file.

        Raises:
            InvalidMessageError: An argument is wrong; nothing was sent.
            RejectedError: Pico refused it.
            InDoubtError: It may have been created: list before you repeat it.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "Create MMS Template".
        """
        if media_url is not None and not is_web_address(media_url):
            raise InvalidMessageError("`media_url` is no web address: pass one as 'https://example.com/path'.")
        engine = self._engine()
        body = wire.named(
            username=engine.account.username,
            campaign_id=text_of("campaign_id", campaign_id),
            name=text_of("name", name),
            content=text_of("content", content),
            media_url=None if media_url is None else engine.account.reachable("media_url", media_url),
        )
        request = Request(endpoints.CREATE_MMS_TEMPLATE, endpoints.CREATE_MMS_TEMPLATE.path, body=body)
        del body, content  # what listens may report its stack, with the locals of each frame
        return await engine.call(request, holdings.decode_acknowledged)

    async def list(self, *, campaign_id: str | None = None, status: str | None = None) -> Listing[Template]:
        """
        List the templates of the account.

        The reply's body is not documented in v0.4: what a template carries is read leniently.

        Args:
            campaign_id: Only those of one campaign.
            status: Only those that are "pending", "approved" or "rejected".

        Raises:
            InvalidMessageError: An argument is wrong; nothing was sent.
            NotSentError: Pico was not reached.
            RejectedError: Pico refused it.
            UnexpectedResponseError: The reply holds no list.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "List Templates".
        """
        query = wire.named(
            campaign_id=None if campaign_id is None else text_of("campaign_id", campaign_id),
            status=None if status is None else text_of("status", status),
        )
        request = Request(endpoints.LIST_TEMPLATES, endpoints.LIST_TEMPLATES.path, query=query)
        return await self._engine().call(request, holdings.decode_templates)

    async def delete(self, template_id: str) -> Acknowledged:
        """
        Delete a template.

        Repeated where the first try may have been carried out; a repeat that finds nothing is done.

        Args:
            template_id: ID from `list`.

        Raises:
            InvalidMessageError: The ID is none; nothing was sent.
            RejectedError: Pico refused it.
            InDoubtError: It may have been carried out.

        Limit: not documented in v0.4; `Rates(management=…)` sets one.
        Source: API reference v0.4, "Delete Template".
        """
        path = endpoints.DELETE_TEMPLATE.path_with(template_id=template_id)
        return await self._engine().call(Request(endpoints.DELETE_TEMPLATE, path), holdings.decode_acknowledged)
