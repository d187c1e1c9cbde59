"""How long a rate refusal pauses and slows the requests, in one process and in a fleet."""

from __future__ import annotations

# The shortest pause, and the pause without a Retry-After. It is the window of the limit: a new bucket is full, so a
# shorter pause would allow too many requests.
PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
SLOWED_TO = 0.8
SLOWEST = 0.2
SLOWED_FOR_S = 30.0
