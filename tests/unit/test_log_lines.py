"""Lines of the log: what an exception quotes is in none of them."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from gateway.log_lines import JsonLines


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_the_loop_says_of_a_failed_task_quotes_no_exception(run: Callable[[Any], None]) -> None:
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonLines().format(record))

    async def failing() -> None:
        raise ValueError("Jane Doe")

    async def forgets_a_task() -> None:
        task = asyncio.get_running_loop().create_task(failing())
        await asyncio.wait({task})
        del task

    handler, logger = Kept(), logging.getLogger("asyncio")
    logger.addHandler(handler)
    try:
        run(forgets_a_task())
    finally:
        logger.removeHandler(handler)
    (line,) = map(json.loads, lines)
    assert (line["message"], line["exception"]) == ("Task exception was never retrieved", "ValueError")
    assert "Jane" not in lines[0]
