"""The banner, which describes the sandbox. The server prints it, and GET /_sandbox/ returns it."""

BANNER: str = """\
pico_async sandbox: a stand-in for Pico Cloud. Nothing is sent to any handset.

It follows the Pico Cloud REST API reference v0.4. Not documented there, and its own invention:
  - the window rule behind "30 per second", and the reply to a request beyond the rate (429 with Retry-After)
  - the bodies of list-templates, create-template, update, delete, mms and voice replies
  - templates are approved at once; {{var}} is not filled
  - delivery receipts (in a test on request): their method, fields, statuses, times, retries and order; to loopback only
  - a wrong X-API-Key (401, on /token 400), unknown paths (404, 405), the price of a message, an empty balance (400)
  - the "ruoyi" dialect, every fault, the magic numbers 999000000NN, and the page at / with everything under /_sandbox/
It listens on plain HTTP, which Pico itself refuses.
"""
