"""One exchange of the guarded way: with addresses that were checked, under the name whose certificate must be shown.

Imported with the first fetch: most servers never fetch anything, and aiohttp is a tenth of what they would import.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv6Address

import aiohttp
from yarl import URL

from authz.fetched import Fetched, FetchError
from authz.outgoing_tls import client_context
from authz.protocol.addresses import Address, FetchUrl
from authz.protocol.caching import max_age_of

_CONNECT_SECONDS = 1.0  # an address that does not answer leaves time for the next one
_CHUNK_BYTES = 8 * 1024


class Exchange:
    """GET and POST over https; certificate_authorities is PEM that is trusted beside the system's."""

    def __init__(self, certificate_authorities: str | None) -> None:
        """Reads the system's authorities from files: not for the event loop."""
        self._context = client_context()
        if certificate_authorities is not None:
            self._context.load_verify_locations(cadata=certificate_authorities)

    async def get(
        self, asked: FetchUrl, addresses: Sequence[Address], *, media_types: Collection[str], max_bytes: int
    ) -> Fetched:
        """The body of a GET. Raises FetchError."""
        headers = {"Accept": ", ".join(media_types)}
        async with self._answer("GET", asked, addresses, headers) as response:
            return await _read(response, media_types=media_types, max_bytes=max_bytes)

    async def post(
        self, asked: FetchUrl, addresses: Sequence[Address], body: bytes, headers: dict[str, str]
    ) -> None:
        """A POST that is answered with 2xx. Raises FetchError."""
        async with self._answer("POST", asked, addresses, headers, body) as response:
            if not 200 <= response.status < 300:
                raise FetchError(
                    "status", f"the status is {response.status}, expected 2xx; redirects are not followed"
                )

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        asked: FetchUrl,
        addresses: Sequence[Address],
        headers: dict[str, str],
        body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer of the first address that can be connected to."""
        for number, address in enumerate(addresses, start=1):
            connected = False
            try:
                async with (
                    self._session() as session,
                    session.request(
                        method,
                        _at(asked, address),
                        headers={"Host": asked.authority, "Accept-Encoding": "identity", **headers},
                        data=body,
                        server_hostname=asked.host,  # the certificate is that of the name
                        allow_redirects=False,
                    ) as response,
                ):
                    connected = True
                    yield response
                    return
            except aiohttp.ClientSSLError as error:
                raise FetchError("tls", f"TLS with {asked.authority} failed: {error}") from error
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                if number == len(addresses) or connected:
                    raise FetchError("unreachable", f"{asked.authority} cannot be connected to") from error
            except (aiohttp.ClientError, ValueError) as error:
                raise FetchError("malformed", f"the answer cannot be read: {type(error).__name__}") from error

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context, force_close=True, limit=1),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        )


def _at(asked: FetchUrl, address: Address) -> URL:
    """The URL with the address in it, so that nothing is looked up again."""
    at = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return URL(f"https://{at}:{asked.port}{asked.target}", encoded=True)


async def _read(response: aiohttp.ClientResponse, *, media_types: Collection[str], max_bytes: int) -> Fetched:
    if response.status != 200:
        raise FetchError(
            "status", f"the status is {response.status}, expected 200; redirects are not followed"
        )
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in media_types:
        raise FetchError("type", f"Content-Type is not {' or '.join(media_types)}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("type", "the body is compressed, although only identity was asked for")
    body = b""
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise FetchError("size", f"the body is longer than {max_bytes} bytes")
    return Fetched(body, max_age_of(response.headers.get("Cache-Control")))
