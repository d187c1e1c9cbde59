"""Campaigns and templates are created, listed, changed and deleted as the reference documents."""

import pytest

from tests.sandbox.documented import create_template, is_documented_error


async def test_campaigns_from_creation_to_deletion(connect, unlimited) -> None:
    """A campaign is listed with the documented fields under the request_id of its creation, changed and deleted."""
    pico = await connect(unlimited)
    created = await pico.post("/campaign", json={"username": "user333", "name": "My Campaign", "remark": "why"})
    campaign_id = created.json()["request_id"]
    assert set(created.json()) == {"request_id"}

    listed = (await pico.get("/campaigns")).json()
    assert set(listed) == {"campaigns", "request_id"}
    (campaign,) = listed["campaigns"]
    assert campaign.pop("created_at").endswith("Z")
    assert campaign == {"id": campaign_id, "name": "My Campaign", "remark": "why"}

    updated = await pico.put(f"/campaign/{campaign_id}", json={"name": "Updated Campaign"})
    assert updated.status_code == 200
    (campaign,) = (await pico.get("/campaigns")).json()["campaigns"]
    assert (campaign["name"], campaign["remark"]) == ("Updated Campaign", "why")

    assert (await pico.delete(f"/campaign/{campaign_id}")).status_code == 200
    assert (await pico.get("/campaigns")).json()["campaigns"] == []
    assert is_documented_error(await pico.delete(f"/campaign/{campaign_id}"))
    assert is_documented_error(await pico.put(f"/campaign/{campaign_id}", json={"name": "n"}))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"name": "n"}, 200),
        ({"name": "活" * 50}, 200),
        ({"name": ""}, 400),
        ({"name": "n" * 51}, 400),
        ({"remark": ""}, 200),
        ({"remark": "r" * 255}, 200),
        ({"remark": "r" * 256}, 400),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_lengths_of_a_campaign(connect, unlimited, campaign_id, method, changes, status) -> None:
    """A campaign's name has 1 to 50 characters and its remark 0 to 255, when created and when changed."""
    pico = await connect(unlimited)
    path = "/campaign" if method == "POST" else f"/campaign/{campaign_id}"

    reply = await pico.request(method, path, json={"username": "user333", "name": "Campaign", **changes})

    assert reply.status_code == status


async def test_templates_from_creation_to_deletion(connect, unlimited, campaign_id) -> None:
    """SMS and MMS templates are listed, filtered by campaign and status, and deleted."""
    pico = await connect(unlimited)
    sms_id = await create_template(pico, campaign_id)
    mms_id = await create_template(pico, campaign_id, "mms")

    async def listed(**query: str) -> list[str]:
        reply = await pico.get("/templates", params=query)
        return [template["id"] for template in reply.json()["templates"]]

    assert await listed() == [sms_id, mms_id]
    assert await listed(campaignId=campaign_id, status="approved") == [sms_id, mms_id]
    assert await listed(campaignId="another") == []
    assert await listed(status="pending") == []
    assert is_documented_error(await pico.get("/templates", params={"status": "lost"}))
    assert (await pico.delete(f"/template/{sms_id}")).status_code == 200
    assert await listed() == [mms_id]
    assert is_documented_error(await pico.delete(f"/template/{sms_id}"))


async def test_a_template_needs_a_known_campaign(connect, unlimited) -> None:
    """A template of an unknown campaign is answered with 400."""
    pico = await connect(unlimited)
    body = {"username": "user333", "campaignId": "campaign-123", "name": "Code", "content": "c"}

    assert is_documented_error(await pico.post("/template/sms", json=body))


async def test_deleting_a_campaign_deletes_its_templates(connect, unlimited, campaign_id) -> None:
    """Deleting a campaign deletes its templates, which the reference does not document."""
    pico = await connect(unlimited)
    await create_template(pico, campaign_id)

    await pico.delete(f"/campaign/{campaign_id}")

    assert (await pico.get("/templates")).json()["templates"] == []
