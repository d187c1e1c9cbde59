"""A sandbox can be looked at: its repr shows its live state."""

from pico_async.sandbox import Fault, FaultRule, Receipts, Sandbox


async def test_the_repr_shows_the_live_state(connect, clock, sms) -> None:
    """The repr counts requests, messages, fault rules and pending receipts, and shows no key, number or text."""
    sandbox = Sandbox(clock=clock, receipts=Receipts())
    pico = await connect(sandbox)
    new = repr(sandbox)

    await pico.post("/sms", json=sms(callback="http://127.0.0.1:1/"))
    sandbox.inject(FaultRule(Fault.BAD_REQUEST))
    await pico.post("/sms", json=sms())
    assert await sandbox.deliver_receipts() == 0, "the receipts are planned, and not yet due"

    assert new == "<Sandbox, requests: 1, messages: 0, fault rules: 0, fault rate: 0, pending receipts: 0>"
    assert repr(sandbox) == "<Sandbox, requests: 3, messages: 1, fault rules: 1, fault rate: 0, pending receipts: 2>"
