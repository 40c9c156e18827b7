"""A body that came with its head is what its pieces are, by whichever way it is read."""

from hypothesis import given
from hypothesis import strategies as st

from authz.protocol.request import RequestError
from gateway.wire.bodies import IncomingBody


class Tap:
    """Counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def body_is_wanted(self) -> None:
        """As Tap."""
        self.asked.append("wanted")

    def body_has_come(self) -> None:
        """As Tap."""
        self.asked.append("come")

    def shut(self) -> None:
        """As Tap."""
        self.asked.append("shut")

    def open(self) -> None:
        """As Tap."""
        self.asked.append("open")


def body_of(pieces: list[bytes], length: int | None, error: Exception | None) -> tuple[IncomingBody, Tap]:
    tap = Tap()
    body = IncomingBody(tap)
    body.length = length
    for piece in pieces:
        body.feed(piece)
    if error is not None:
        body.fail(error)
    body.end()
    return body, tap


async def streamed(body: IncomingBody, limit: int) -> bytes:
    """read(), piece by piece."""
    found = b""
    if body.length is not None and body.length > limit:
        raise RequestError(413, "longer")
    async for piece in body.stream():
        found += piece
        if len(found) > limit:
            raise RequestError(413, "longer")
    return found


@given(
    st.lists(st.sampled_from([b"", b"a", b"bc" * 40, b"d" * 70_000]), max_size=4),
    st.sampled_from([0, 1, 79, 80, 100, 200_000]),
    st.booleans(),
    st.sampled_from([None, RequestError(400, "broken"), ConnectionResetError("gone")]),
)
async def test_to_read_it_is_to_stream_it(
    pieces: list[bytes], limit: int, by_length: bool, error: Exception | None
) -> None:
    said = []
    for read in (IncomingBody.read, streamed):
        body, tap = body_of(pieces, sum(map(len, pieces)) if by_length else None, error)
        try:
            outcome: object = await read(body, limit)
        except (RequestError, ConnectionResetError) as raised:
            outcome = type(raised), getattr(raised, "status", None)
        said.append((outcome, tap.asked))
    assert said[0] == said[1]
