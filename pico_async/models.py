"""
What comes out: frozen values, with whatever v0.4 does not document kept in `extra`.

All in one place, for whoever wants all. The package itself takes them from where they live, for most sessions only
send, and each value that is made with the import costs it.
"""

from pico_async.grants import Accepted, UserToken
from pico_async.holdings import Acknowledged, Balance, Campaign, CreatedCampaign, Listing, Template

__all__ = [
    "Accepted",
    "Acknowledged",
    "Balance",
    "Campaign",
    "CreatedCampaign",
    "Listing",
    "Template",
    "UserToken",
]
