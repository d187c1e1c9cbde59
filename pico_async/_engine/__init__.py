"""
How one call is made. Private: import from `pico_async` instead.

    call.py                Engine.send: a message becomes a Request (wire.py); Engine._run: one call, top to bottom
      _acquire             the token, the opt-outs, the write-ahead commit, then a slot, then a connection
        coordination/        token_cache.py: fetched once, however many callers wait; the limiter grants the slot
      _exchange            one request, one reply
        http/exchange.py     a bound in time, and the moment of writing, which may need another slot
        http/…_transport.py  the HTTP library
      verdict.py           what the reply, or the failure, proves
      decision.py          after a failed attempt: replace the token, retry or fail
    progress.py            the limits and hooks of the call, how far it is, and its events if something listens
"""
