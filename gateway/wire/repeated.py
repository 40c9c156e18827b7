"""What fails again and again: said in the log at once, and from then on how often, once a minute."""

import logging
import time
from collections.abc import Callable

_EVERY_SECONDS = 60.0
_log = logging.getLogger("securus.listener")


class Repeated:
    """A failure that may come ten times a second for hours, and must be neither silent nor all that the log holds."""

    def __init__(self, message: str, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._message = message
        self._steady = steady
        self._untold = 0
        self._cause = ""
        self._tell_at = 0.0

    def happened(self, cause: str) -> None:
        """It failed: the first time in a minute is said at once, others by tell()."""
        self._untold += 1
        self._cause = cause
        self.tell()

    def tell(self) -> None:
        """Say how often it failed since it was said last, unless that was within the minute."""
        now = self._steady()
        if not self._untold or now < self._tell_at:
            return
        count, self._untold = self._untold, 0
        self._tell_at = now + _EVERY_SECONDS
        _log.error(self._message, extra={"cause": self._cause, "count": count})
