"""The one clock: everything that needs the time is handed a Clock."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Seconds since 1970."""


def system_clock() -> int:
    """Seconds since 1970 by the machine's clock."""
    return int(time.time())
