"""Threads for work beside the requests: they get the processor where the event loop leaves it.

Hashing a password takes 20 ms of a core, and folding a write-ahead log in 8. Were such a thread as urgent as the loop,
every request of that time would take twice as long. It is not put off for ever either: while it holds the interpreter's
lock for a moment, the loop waits for it.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TypeVar

T = TypeVar("T")
_LESS_URGENT = 10  # about a tenth of what the loop gets where both want all of one core


def threads_beside(at_most: int, name: str) -> ThreadPoolExecutor:
    """So many threads at most, whose names begin with name. Where threads have no priority of their own, usual ones."""
    return ThreadPoolExecutor(at_most, name, _yield)


async def beside(make: Callable[[], T]) -> T:
    """What make() gives, made beside the loop: of what is long it may make everything. One is made at a time."""
    return await asyncio.get_running_loop().run_in_executor(_made_in(), make)


@cache
def _made_in() -> ThreadPoolExecutor:
    return threads_beside(1, "made-beside")


def _yield() -> None:
    if sys.platform != "linux":  # elsewhere a priority is of the process
        return
    own = threading.get_native_id()
    with suppress(OSError):  # a pool whose threads cannot begin would do nothing at all
        os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + _LESS_URGENT)
