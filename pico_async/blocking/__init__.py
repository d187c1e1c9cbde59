"""
The same operations for synchronous code: Django, Flask, Celery, RQ, scripts and notebooks.

    from pico_async.blocking import Pico

    with Pico() as pico:
        accepted = pico.sms.send(to="8612345678901", text="Your code is 1234")
"""

from pico_async.blocking.bulk import BulkStream
from pico_async.blocking.pico import Pico

__all__ = ["BulkStream", "Pico"]
