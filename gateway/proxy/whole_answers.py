"""Answers of the passage to requests of our own, read whole: they go to no caller as they are."""

from collections.abc import AsyncIterator

from authz.protocol.request import Answer


class TooLong(Exception):
    """The answer is longer than whoever asked reads."""


class BrokenOff(Exception):
    """The answer did not come to its end: nothing may be concluded from what came."""


async def whole_body(answer: Answer, *, max_bytes: int) -> bytes:
    """The body of an answer; one that was held in memory has its bound already. Raises TooLong, BrokenOff."""
    if isinstance(answer.body, bytes):
        return answer.body
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in answer.body:
            pieces.append(piece)
            size += len(piece)
            if size > max_bytes:
                raise TooLong(f"the answer is longer than {max_bytes} bytes")
    except TooLong:
        raise
    except Exception as error:  # what breaks off decides nothing, whatever broke it
        raise BrokenOff(f"the answer broke off: {type(error).__name__}") from error
    finally:
        await let_go(answer.body)
    return b"".join(pieces)


async def let_go(body: bytes | AsyncIterator[bytes]) -> None:
    """End a body that nobody takes any further."""
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()
