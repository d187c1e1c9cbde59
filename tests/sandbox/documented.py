"""What the reference documents, as checks and calls that several tests of the sandbox share."""

from uuid import UUID


def is_documented_error(reply) -> bool:
    body = reply.json()
    return (
        reply.status_code == 400
        and set(body) == {"request_id", "errors"}
        and UUID(body["request_id"]).version == 4
        and len(body["errors"]) >= 1
        and all(isinstance(error, str) and error for error in body["errors"])
    )


async def create_template(pico, campaign_id: str, kind: str = "sms") -> str:
    body = {"username": "user333", "campaignId": campaign_id, "name": "Code", "content": "Your code is {{code}}"}
    reply = await pico.post(f"/template/{kind}", json=body)
    assert reply.status_code == 200
    return reply.json()["request_id"]
