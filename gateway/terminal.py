"""The terminal that a process was started from: SIGHUP means that it is gone, or that files are to be read again."""

import os
import signal


class Terminal:
    """The controlling terminal at start. To be made before anybody handles SIGHUP."""

    def __init__(self) -> None:
        # nohup says that the end of the terminal is not ours.
        self._ends_us = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _is_there()

    def is_gone(self) -> bool:
        """Whether there was a terminal, and there is none any more: the process was not asked to reload."""
        return self._ends_us and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
