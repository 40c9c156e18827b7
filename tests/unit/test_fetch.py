"""The guarded GET against a real https server (I3): what it takes, what it refuses, and what it never sends."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio

from authz import fetch
from authz.fetch import Fetcher
from authz.fetched import Fetched, FetchError
from authz.protocol.addresses import Address, AllowList
from tests.support.key_server import HOST, KeyServer, key_server, resolving


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[KeyServer]:
    async with key_server(tmp_path) as server:
        yield server


async def fetched(server: KeyServer, fetcher: Fetcher | None = None, url: str | None = None) -> Fetched:
    fetcher = fetcher or server.fetcher()
    try:
        return await fetcher.get(url or server.url, media_types=("application/json",), max_bytes=1000)
    finally:
        fetcher.close()


async def refused(
    server: KeyServer, fetcher: Fetcher | None = None, url: str | None = None
) -> tuple[str, str]:
    """Outcome and text of a fetch that must fail."""
    with pytest.raises(FetchError) as error:
        await fetched(server, fetcher, url)
    return error.value.outcome, str(error.value)


async def test_I3_a_document_is_fetched_with_nothing_that_says_who_we_are(server: KeyServer) -> None:
    server.headers["Cache-Control"] = "max-age=90"
    server.headers["Set-Cookie"] = "a=b"
    fetcher = server.fetcher()
    for _ in range(2):
        found = await fetcher.get(server.url, media_types=("application/json",), max_bytes=1000)
        assert found == Fetched(b'{"keys":[]}', 90)
    fetcher.close()
    said = {"host": f"{HOST}:{server.port}", "accept": "application/json", "accept-encoding": "identity"}
    assert [{n: v for n, v in seen.items() if n != "connection"} for seen in server.seen] == [said, said]


async def test_I3_an_address_of_ours_is_refused_without_the_allow_list(server: KeyServer) -> None:
    assert (await refused(server, server.fetcher(allow=AllowList())))[0] == "refused"
    literal = f"https://127.0.0.1:{server.port}/"
    outcome, said = await refused(server, server.fetcher(allow=AllowList()), literal)
    assert (outcome, said) == (
        "refused", "127.0.0.1 is not a public address; fetch.allow may list '127.0.0.1' or its network"
    )  # fmt: skip
    assert server.seen == []
    assert (await fetched(server, url=literal)).body == b'{"keys":[]}'


async def test_I3_a_host_on_the_allow_list_is_fetched_from_by_its_name_only(server: KeyServer) -> None:
    allow = AllowList(hosts=frozenset({HOST}))
    assert (await fetched(server, server.fetcher(allow=allow))).body
    other = f"https://other.example:{server.port}/"
    assert (await refused(server, server.fetcher(allow=allow), other))[0] == "refused"


async def test_I3_a_name_that_resolves_to_something_else_the_second_time_changes_nothing(
    server: KeyServer,
) -> None:
    """DNS rebinding: the first answer is checked, the second would be connected to."""
    answers = [["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]]
    asked = []

    async def rebinding(host: str, port: int) -> list[Address]:
        asked.append(host)
        return [ip_address(text) for text in answers.pop(0)]

    fetcher = server.fetcher(resolve=rebinding)
    assert (await fetcher.get(server.url, media_types=("application/json",), max_bytes=1000)).body
    assert asked == [HOST]
    assert (await refused(server, fetcher))[0] == "refused"
    assert asked == [HOST, HOST]


async def test_I3_of_several_addresses_only_those_that_may_be_are_connected_to(server: KeyServer) -> None:
    fetcher = server.fetcher(
        resolve=resolving("169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1", "127.0.0.1")
    )
    assert (await fetched(server, fetcher)).body
    none = server.fetcher(resolve=resolving("169.254.169.254", "10.0.0.1", "fe80::1"))
    assert (await refused(server, none))[0] == "refused"
    assert (await refused(server, server.fetcher(resolve=resolving())))[0] == "refused"


async def test_I3_our_own_origins_and_listeners_are_refused_though_they_are_listed(server: KeyServer) -> None:
    by_name = server.fetcher(origins=(f"https://{HOST.upper()}:{server.port}",))
    said = ("refused", "the URL is one of this server's own")
    assert await refused(server, by_name) == said
    dotted = server.fetcher(origins=(f"https://{HOST}:{server.port}",))
    assert await refused(server, dotted, f"https://{HOST}.:{server.port}/") == said
    default = server.fetcher(origins=(f"https://{HOST}",))
    assert await refused(server, default, f"https://{HOST}:443/") == said
    for address in ("127.0.0.1", "127.9.9.9", "::ffff:127.0.0.1"):
        by_port = server.fetcher(ports=(server.port,), resolve=resolving(address))
        outcome, text = await refused(server, by_port)
        assert outcome == "refused"
        assert "this server's own" in text
    assert server.seen == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_I3_a_redirect_is_not_followed(server: KeyServer, status: int) -> None:
    server.status, server.headers["Location"] = status, server.url
    assert (await refused(server))[0] == "status"
    assert len(server.seen) == 1


async def test_I3_a_body_that_is_too_long_is_not_read_to_its_end(server: KeyServer) -> None:
    server.body = b"x" * 1000
    assert len((await fetched(server)).body) == 1000
    server.body = b"x" * 1001
    assert await refused(server) == ("size", "the body is longer than 1000 bytes")


@pytest.mark.parametrize("media_type", ["text/html", "application/jsonp", "text/json", ""])
async def test_I3_another_media_type_is_refused(server: KeyServer, media_type: str) -> None:
    server.headers["Content-Type"] = "Application/JSON; charset=utf-8"
    assert (await fetched(server)).body
    server.headers["Content-Type"] = media_type or "application/octet-stream"
    assert (await refused(server))[0] == "type"


async def test_I3_a_compressed_body_is_refused_and_not_unpacked(server: KeyServer) -> None:
    server.headers["Content-Encoding"] = "gzip"
    assert (await refused(server))[0] == "type"


async def test_I3_a_server_that_does_not_answer_is_given_up(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", 0.3)
    server.silent = True
    assert (await refused(server))[0] == "slow"


async def test_I3_a_certificate_that_does_not_fit_is_refused(server: KeyServer) -> None:
    assert (await refused(server, server.fetcher(trusted=False)))[0] == "tls"
    other = f"https://other.example:{server.port}/"
    assert (await refused(server, url=other))[0] == "tls"
    assert server.seen == []


async def test_what_cannot_be_connected_to_is_unreachable(server: KeyServer) -> None:
    assert (await refused(server, server.fetcher(resolve=resolving("127.0.0.2"))))[0] == "unreachable"

    async def unknown(host: str, port: int) -> list[Address]:
        raise OSError(-2, "Name or service not known")

    outcome, said = await refused(server, server.fetcher(resolve=unknown))
    assert (outcome, said) == ("unreachable", f"'{HOST}' has no address: Name or service not known")


async def test_the_next_address_is_tried_when_one_does_not_answer(server: KeyServer) -> None:
    assert (await fetched(server, server.fetcher(resolve=resolving("127.0.0.2", "127.0.0.1")))).body


async def test_the_system_is_asked_for_names(server: KeyServer) -> None:
    fetcher = Fetcher(allow=AllowList(hosts=frozenset({"localhost"})), own_origins=(), own_ports=())
    with pytest.raises(FetchError) as error:  # the name is found; the certificate is for another
        await fetcher.get(
            f"https://localhost:{server.port}/", media_types=("application/json",), max_bytes=1000
        )
    fetcher.close()
    assert error.value.outcome == "tls"


async def test_I3_four_fetches_run_at_once_and_no_more(server: KeyServer) -> None:
    server.silent = True
    fetcher = server.fetcher()
    running = [
        asyncio.create_task(
            fetcher.get(f"{server.url}?{n}", media_types=("application/json",), max_bytes=1000)
        )
        for n in range(6)
    ]
    while len(server.seen) < 4:
        await asyncio.sleep(0.01)
    assert sum(not task.done() for task in running) == 6
    assert len(server.seen) == 4
    server.released.set()
    assert len(await asyncio.gather(*running)) == 6
    fetcher.close()


# Messages


async def posted(server: KeyServer, fetcher: Fetcher | None = None, url: str | None = None) -> str | None:
    """Send a message; the outcome of a failure, None without one."""
    fetcher = fetcher or server.fetcher()
    failure = None
    try:
        await fetcher.post(
            url or server.url, b'{"a":1}', media_type="application/json", authorization="Bearer secret"
        )
    except FetchError as error:
        failure = error
    fetcher.close()
    assert "secret" not in str(failure)
    return None if failure is None else failure.outcome


async def test_a_message_is_posted_with_its_bearer_and_any_2xx_takes_it(server: KeyServer) -> None:
    for status in (200, 201, 202, 204):
        server.status = status
        assert await posted(server) is None
    assert server.taken == [b'{"a":1}'] * 4
    said = {
        "host": f"{HOST}:{server.port}",
        "content-type": "application/json",
        "authorization": "Bearer secret",
    }
    assert said.items() <= server.seen[0].items()
    assert "cookie" not in server.seen[0]
    assert "user-agent" not in server.seen[0]


@pytest.mark.parametrize("status", [302, 307, 400, 401, 404, 500, 503])
async def test_a_message_that_is_not_taken_is_not_delivered_and_goes_nowhere_else(
    server: KeyServer, status: int
) -> None:
    server.status, server.headers["Location"] = status, server.url
    assert await posted(server) == "status"
    assert len(server.seen) == 1


async def test_a_message_goes_the_guarded_way_only(server: KeyServer) -> None:
    assert await posted(server, server.fetcher(allow=AllowList())) == "refused"
    assert await posted(server, server.fetcher(trusted=False)) == "tls"
    assert await posted(server, server.fetcher(ports=(server.port,))) == "refused"
    assert await posted(server, url=server.url.replace("https", "http")) == "refused"
    assert server.taken == []
