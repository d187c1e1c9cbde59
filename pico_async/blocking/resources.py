"""The blocking form of each resource."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast, overload

from pico_async.blocking.operations import Running, blocking, documented_as
from pico_async.coordination.protocols import Priority
from pico_async.models import (
    Accepted,
    Acknowledged,
    Balance,
    Campaign,
    CreatedCampaign,
    Listing,
    Template,
    UserToken,
)
from pico_async.resources import balance, campaigns, mms, sms, templates, token, voice


class _Resource:
    def __init__(self, open_: Callable[[], Running]) -> None:
        self._open = open_


@documented_as(sms.SmsResource)
class SmsResource(_Resource):
    """Text messages: `pico.sms`."""

    @overload
    def send(
        self,
        to: str,
        text: str,
        *,
        template_id: None = None,
        sender: str | None = None,
        callback: str | None = None,
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted: ...

    @overload
    def send(
        self,
        to: str,
        text: None = None,
        *,
        template_id: str,
        sender: str | None = None,
        callback: str | None = None,
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted: ...

    @blocking  # type: ignore[misc]  # mypy takes the `self` of a decorated method for positional only
    async def send(
        self,
        to: str,
        text: str | None = None,
        *,
        template_id: str | None = None,
        sender: str | None = None,
        callback: str | None = None,
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted:
        call: Coroutine[Any, Any, Accepted] = cast(Any, self._open().session.sms).send(
            to,
            text,
            template_id=template_id,
            sender=sender,
            callback=callback,
            expires_in=expires_in,
            key=key,
            priority=priority,
            promotional=promotional,
        )
        del to, text  # an error reporter in a listener may show the variables of each frame
        return await call


@documented_as(mms.MmsResource)
class MmsResource(_Resource):
    """Messages with media: `pico.mms`."""

    @blocking
    async def send(
        self,
        to: str,
        media_url: str,
        *,
        text: str | None = None,
        sender: str | None = None,
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted:
        call = self._open().session.mms.send(
            to,
            media_url,
            text=text,
            sender=sender,
            expires_in=expires_in,
            key=key,
            priority=priority,
            promotional=promotional,
        )
        del to, media_url, text  # an error reporter in a listener may show the variables of each frame
        return await call


@documented_as(voice.VoiceResource)
class VoiceResource(_Resource):
    """Voice messages, texts that are read out on the phone: `pico.voice`."""

    @blocking
    async def send(
        self,
        to: str,
        text: str,
        *,
        lang: str = "en-US",
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted:
        call = self._open().session.voice.send(
            to, text, lang=lang, expires_in=expires_in, key=key, priority=priority, promotional=promotional
        )
        del to, text  # an error reporter in a listener may show the variables of each frame
        return await call


@documented_as(campaigns.CampaignsResource)
class CampaignsResource(_Resource):
    """Campaigns: `pico.campaigns`."""

    @blocking
    async def create(self, name: str, *, remark: str | None = None) -> CreatedCampaign:
        return await self._open().session.campaigns.create(name, remark=remark)

    @blocking
    async def list(self) -> Listing[Campaign]:
        return await self._open().session.campaigns.list()

    @blocking
    async def update(self, campaign_id: str, *, name: str | None = None, remark: str | None = None) -> Acknowledged:
        return await self._open().session.campaigns.update(campaign_id, name=name, remark=remark)

    @blocking
    async def delete(self, campaign_id: str) -> Acknowledged:
        return await self._open().session.campaigns.delete(campaign_id)


@documented_as(templates.TemplatesResource)
class TemplatesResource(_Resource):
    """Templates: `pico.templates`."""

    @blocking
    async def create_sms(self, campaign_id: str, name: str, content: str) -> Acknowledged:
        return await self._open().session.templates.create_sms(campaign_id, name, content)

    @blocking
    async def create_mms(
        self, campaign_id: str, name: str, content: str, *, media_url: str | None = None
    ) -> Acknowledged:
        return await self._open().session.templates.create_mms(campaign_id, name, content, media_url=media_url)

    @blocking
    async def list(self, *, campaign_id: str | None = None, status: str | None = None) -> Listing[Template]:
        return await self._open().session.templates.list(campaign_id=campaign_id, status=status)

    @blocking
    async def delete(self, template_id: str) -> Acknowledged:
        return await self._open().session.templates.delete(template_id)


@documented_as(balance.BalanceResource)
class BalanceResource(_Resource):
    """The account's credit: `pico.balance`."""

    @blocking
    async def get(self) -> Balance:
        return await self._open().session.balance.get()


@documented_as(token.TokenResource)
class TokenResource(_Resource):
    """The token: `pico.token`. Calls fetch and renew it by themselves."""

    @blocking
    async def ensure(self) -> None:
        await self._open().session.token.ensure()

    @blocking
    async def get(self) -> UserToken:
        return await self._open().session.token.get()
