"""
What the callers of one API key share.

    what              shared by                                         where
    limiters          all sessions of the key, at all of Pico's hosts   coordinator.limiter(rate_group)
    token             all sessions of the key, account and host         coordinator.token

`LocalCoordinator` shares them in one event loop; `registry.py` gives the sessions of one key the same ones.
`RedisCoordinator` shares them among the processes of a fleet.
"""
