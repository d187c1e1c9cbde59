"""The blocking form of each resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, overload

from pico_async.blocking.operations import Running, blocking
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
    """One API noun; `name` is that of the session's attribute."""

    name: ClassVar[str]

    def __init__(self, running: Callable[[], Running]) -> None:
        self._running = running

    def _target(self) -> tuple[Running, Any]:
        running = self._running()
        return running, getattr(running.session, self.name)


class SmsResource(_Resource):
    """Text messages: `pico.sms`."""

    name = "sms"

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

    @blocking(sms.SmsResource.send)
    def send(
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
        raise NotImplementedError


class MmsResource(_Resource):
    """Messages with media: `pico.mms`."""

    name = "mms"

    @blocking(mms.MmsResource.send)
    def send(
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
        raise NotImplementedError


class VoiceResource(_Resource):
    """Voice messages, texts that are read out on the phone: `pico.voice`."""

    name = "voice"

    @blocking(voice.VoiceResource.send)
    def send(
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
        raise NotImplementedError


class CampaignsResource(_Resource):
    """Campaigns: `pico.campaigns`."""

    name = "campaigns"

    @blocking(campaigns.CampaignsResource.create)
    def create(self, name: str, *, remark: str | None = None) -> CreatedCampaign:
        raise NotImplementedError

    @blocking(campaigns.CampaignsResource.list)
    def list(self) -> Listing[Campaign]:
        raise NotImplementedError

    @blocking(campaigns.CampaignsResource.update)
    def update(self, campaign_id: str, *, name: str | None = None, remark: str | None = None) -> Acknowledged:
        raise NotImplementedError

    @blocking(campaigns.CampaignsResource.delete)
    def delete(self, campaign_id: str) -> Acknowledged:
        raise NotImplementedError


class TemplatesResource(_Resource):
    """Templates: `pico.templates`."""

    name = "templates"

    @blocking(templates.TemplatesResource.create_sms)
    def create_sms(self, campaign_id: str, name: str, content: str) -> Acknowledged:
        raise NotImplementedError

    @blocking(templates.TemplatesResource.create_mms)
    def create_mms(self, campaign_id: str, name: str, content: str, *, media_url: str | None = None) -> Acknowledged:
        raise NotImplementedError

    @blocking(templates.TemplatesResource.list)
    def list(self, *, campaign_id: str | None = None, status: str | None = None) -> Listing[Template]:
        raise NotImplementedError

    @blocking(templates.TemplatesResource.delete)
    def delete(self, template_id: str) -> Acknowledged:
        raise NotImplementedError


class BalanceResource(_Resource):
    """The account's credit: `pico.balance`."""

    name = "balance"

    @blocking(balance.BalanceResource.get)
    def get(self) -> Balance:
        raise NotImplementedError


class TokenResource(_Resource):
    """The token: `pico.token`. Calls fetch and renew it by themselves."""

    name = "token"

    @blocking(token.TokenResource.ensure)
    def ensure(self) -> None:
        raise NotImplementedError

    @blocking(token.TokenResource.get)
    def get(self) -> UserToken:
        raise NotImplementedError
