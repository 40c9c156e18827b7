"""Work on large bodies: in a thread, so that requests have their turn every half millisecond.

Reading a megabyte of JSON strictly takes 30 ms, writing it 25, and what is made of 10 MiB takes more than a second. What
reads and checks is Python, or calls it for each object and each decimal, so that the thread gives the interpreter up
when the loop wants it; only of a list of texts or whole numbers alone a decoder in C makes all at once.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Made = TypeVar("Made")
INLINE_BYTES = 64 * 1024
"""Of so many bytes something is made at once: in about 2 ms, and a thread would take longer to begin."""
_AT_ONCE = 2  # each competes with the loop


async def by_length(length: int, make: Callable[[], Made]) -> Made:
    """What make() gives, of so many bytes. Nobody else may change meanwhile what it looks at."""
    if length <= INLINE_BYTES:
        return make()
    return await asyncio.get_running_loop().run_in_executor(_threads(), make)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, "large-body")
