"""An answer that is too long to be held, on its way out: it holds a connection to the store until it has ended."""

from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.proxy.upstream import UpstreamAnswer

_HELD_BYTES = 256 * 1024  # an answer this short is held until it is whole: one audit record says all of it
Ended = Callable[[str], Awaitable[None]]


async def whole_or_long(
    pieces: AsyncIterator[bytes], answer: UpstreamAnswer, record: Ended
) -> "bytes | LongAnswer":
    """The pieces made of an answer: all of them where they are short, and the answer is closed; else as they come."""
    held: list[bytes] = []
    size = 0
    async for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size > _HELD_BYTES:
            return LongAnswer(held, pieces, answer, record)
    answer.close()
    return b"".join(held)


class LongAnswer:
    """What was held, then the rest as it comes. It ends once: with the last piece, with an error, or by aclose().

    record is told how an answer ended of which something went out: 'complete' or 'broken-off'. An object and no
    generator: closing a generator that was never begun runs nothing of it, and the store's connection would stay taken.
    """

    def __init__(
        self,
        held: list[bytes],
        rest: AsyncIterator[bytes],
        answer: UpstreamAnswer,
        record: Ended,
    ) -> None:
        self._held = held
        self._rest = rest
        self._answer = answer
        self._record = record
        self._is_begun = False
        self._is_ended = False

    def __aiter__(self) -> "LongAnswer":
        return self

    async def __anext__(self) -> bytes:
        if not self._is_begun:
            self._is_begun = True
            first = b"".join(self._held)
            self._held.clear()
            return first
        try:
            return await anext(self._rest)
        except StopAsyncIteration:
            await self._end("complete")
            raise
        except BaseException:
            await self._end("broken-off")
            raise

    def withdraw(self) -> None:
        """What was taken of it did not go out after all: it ends without a record."""
        self._is_begun = False

    async def aclose(self) -> None:
        """End it here, if it has not ended. What nobody began to take is let go without a record."""
        await self._end("broken-off")

    async def _end(self, how: str) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        self._held.clear()
        self._answer.close()
        if self._is_begun:
            await self._record(how)
