"""What a rate refusal costs, in one process as in a fleet."""

from __future__ import annotations

# At the least, and where Pico does not say how long to wait: the window of the limit. A new bucket is full, so nothing
# shorter would do.
PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
SLOWED_TO = 0.8
SLOWEST = 0.2
SLOWED_FOR_S = 30.0
