"""The blocking form of each resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pico_async.blocking.operations import Running, blocking
from pico_async.resources.balance import BalanceResource
from pico_async.resources.campaigns import CampaignsResource
from pico_async.resources.mms import MmsResource
from pico_async.resources.sms import SmsResource
from pico_async.resources.templates import TemplatesResource
from pico_async.resources.token import TokenResource
from pico_async.resources.voice import VoiceResource


class _Resource:
    """One API noun; `name` is that of the session's attribute."""

    name: ClassVar[str]

    def __init__(self, running: Callable[[], Running]) -> None:
        self._running = running

    def _target(self) -> tuple[Running, Any]:
        running = self._running()
        return running, getattr(running.session, self.name)


class Sms(_Resource):
    """Text messages: `pico.sms`."""

    name = "sms"
    send = blocking(SmsResource.send)


class Mms(_Resource):
    """Messages with media: `pico.mms`."""

    name = "mms"
    send = blocking(MmsResource.send)


class Voice(_Resource):
    """Voice messages, texts that are read out on the phone: `pico.voice`."""

    name = "voice"
    send = blocking(VoiceResource.send)


class Campaigns(_Resource):
    """Campaigns: `pico.campaigns`."""

    name = "campaigns"
    create = blocking(CampaignsResource.create)
    list = blocking(CampaignsResource.list)
    update = blocking(CampaignsResource.update)
    delete = blocking(CampaignsResource.delete)


class Templates(_Resource):
    """Templates: `pico.templates`."""

    name = "templates"
    create_sms = blocking(TemplatesResource.create_sms)
    create_mms = blocking(TemplatesResource.create_mms)
    list = blocking(TemplatesResource.list)
    delete = blocking(TemplatesResource.delete)


class Balance(_Resource):
    """The account's credit: `pico.balance`."""

    name = "balance"
    get = blocking(BalanceResource.get)


class Token(_Resource):
    """The token: `pico.token`. Calls fetch and renew it by themselves."""

    name = "token"
    ensure = blocking(TokenResource.ensure)
    get = blocking(TokenResource.get)
