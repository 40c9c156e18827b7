"""Reads with traces, request ids and addresses of their own, which an ingress or a library for traces adds to each.

As in test_precedents each sequence is played at two gateways. Both trust the proxy that the tests are: whom it names in
x-forwarded-for is the caller.
"""

import json
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from gateway.settings import Limits, RequestRate, TrustedProxies
from tests.attacks.test_precedents import OBSERVATION, ODD_ANSWERS, answering, plain
from tests.support.gateway import Reply, RunningGateway
from tests.support.twins import NOW, Line, Twins, start_twins, stop_twins

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("precedents-traced")]
POLICIES = {
    "00-definitions.yaml": """\
definitions: house
version: 1
claims:
  patient: {path: patient, type: id}
  user: {path: fhirUser, type: reference, of: [Practitioner, Patient]}
  roles: {path: roles, type: codes}
sets:
  inside: {networks: [10.0.0.0/8, "2001:db8::/48"]}
""",
    "house.yaml": """\
policy: house
version: 1
owner: tests
status: enforce
text: Who reads from where.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read]
    resources: [Observation, Patient]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person sees the own record.
  - rule: in-the-house
    effect: permit
    who: {context: user, role: [physician]}
    when: {network: $inside}
    may: [read]
    resources: [Observation]
    shared: true
    because: Staff sees charts in the house.
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/B, expect: {status: 404}}
""",
}
BURST = 60  # reads from one address
Fields = tuple[tuple[str, str], ...]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def twins(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Twins]:
    folder = tmp_path_factory.mktemp("twins")
    (folder / "policies").mkdir()
    for name, text in POLICIES.items():
        (folder / "policies" / name).write_text(text)
    limits = Limits(drain=2.0, rates={"address": RequestRate(1, 3600, BURST, False)})
    with pytest.MonkeyPatch.context() as patch:
        started = await start_twins(
            folder,
            patch,
            policies=folder / "policies",
            limits=limits,
            proxies=TrustedProxies(("127.0.0.0/8",)),
        )
        yield started
        await stop_twins(started)


_SO_FAR = [0]


def fresh() -> tuple[str, str]:
    """The name of a token, and an address in the house, that no other test has."""
    _SO_FAR[0] += 1
    return f"token-{_SO_FAR[0]}", f"10.{_SO_FAR[0] // 250}.{_SO_FAR[0] % 250}.1"


def trace(number: int, flags: str = "01") -> str:
    """A traceparent of its own."""
    return f"00-{number + 1:032x}-{number + 1:016x}-{flags}"


def of(number: int, address: str) -> dict[str, tuple[str, ...]]:
    """For each header values of a read of this number; behind the proxy each of them is from that address."""
    return {
        "traceparent": (trace(number), trace(number, "00")),
        "tracestate": (
            f"congo=t{number}",
            f"a=b{number}, c={'d' * 99}",
            "securus-mark-traceparent.",
            "securus-mark-id.",
        ),
        "x-request-id": (f"{number:032x}", "securus-mark-interaction.", trace(number)),
        "x-correlation-id": (f"c{number}", "c" * 128),
        "x-forwarded-for": (f"{address}:{number + 1}", f"192.0.2.{number}, {address}", address),
        "forwarded": (f"for={address};by=_{number}", f'for="[2001:db8::{number:x}]:4711", for=unknown'),
        "b3": (
            f"{number + 1:032x}-{number + 1:016x}-1-{number + 2:016x}",
            f"{number + 1:016x}-{number + 1:016x}",
            "0",
        ),
        "x-b3-traceid": (f"{number + 1:032x}", f"{number + 1:016x}"),
        "x-b3-spanid": (f"{number + 1:016x}",),
        "x-b3-parentspanid": (f"{number + 2:016x}",),
        "x-b3-sampled": (str(number % 2), "true"),
        "x-b3-flags": (str(number % 2),),
        "x-datadog-trace-id": (f"{2**64 - 1 - number}", f"{number}"),
        "x-datadog-parent-id": (f"{number}",),
        "x-datadog-sampling-priority": (f"{number % 3}", "-1"),
        "x-datadog-origin": ("rum", f"o-{number}"),
        "x-datadog-tags": (f"_dd.p.dm=-{number},_dd.p.tid=66d77b0400000000", "securus-mark-x-datadog-tags."),
        "x-amzn-trace-id": (
            f"Root=1-5759e988-{number:024x};Parent=53995c3f42cd8ad8;Sampled={number % 2}",
            f"Self=1-67891234-{number:024x}; Root=1-67891233-abcdef012345678912345678;Lineage=25:a:0|1:b:{number}",
        ),
        "x-cloud-trace-context": (
            f"{number:032x}/{number};o={number % 2}",
            f"{number:032X}",
            f"{number:032x};o=1",
        ),
        "baggage": (
            f"user=u{number};private, tenant = t{number}",
            ",".join([f"k{each}=v{number}" for each in range(64)]),
            "securus-mark-id.=securus-mark-baggage.",
        ),
        "x-fapi-interaction-id": (f"6ba7b810-9dad-11d1-80b4-00c04fd43{number:03x}", "-" * 36),
    }


NAMES = tuple(of(0, ""))


async def read(twins: Twins, fields: Fields, token: str, id_: str = "x", **more: Any) -> Reply:
    """The answer of both to a read with these headers, from the store's Observation of this id."""
    twins.store_answers(answering(plain(OBSERVATION | {"id": id_}), ETag='W/"1"'))
    return await twins.read(f"/Observation/{id_}", name=token, headers=fields, **more)


async def told(twins: Twins) -> tuple[dict[str, str], dict[str, Any]]:
    """What the store was told last where reads may follow, and what is on record of it."""
    return twins.first.upstream.requests[-1].headers, (await twins.first.audit())[-1]


@pytest.mark.parametrize("name", NAMES)
async def test_reads_with_values_of_their_own_follow_one_another(twins: Twins, name: str) -> None:
    token, address = fresh()
    before = twins.uses.shortly
    behind = () if name == "x-forwarded-for" else (("X-Forwarded-For", address),)
    values = [value for number in range(3) for value in of(number, address)[name]]
    for number, value in enumerate(values):
        reply = await read(twins, (*behind, (name, value)), token, f"x{number}")
        assert (reply.status, reply.json["id"]) == (200, f"x{number}")
        sent, record = await told(twins)
        assert sent["x-forwarded-for"] == record["peer"] == address
        assert sent.get(name) == (value if name in ("traceparent", "tracestate") else sent.get(name))
        assert record.get("trace") == (value if name == "traceparent" else None)
        assert sent["x-request-id"] == record["interaction_id"] == reply.header("x-fapi-interaction-id")
    assert twins.uses.shortly == before + len(values) - 1


async def test_what_nobody_reads_reaches_neither_store_nor_log_nor_caller(twins: Twins) -> None:
    token, address = fresh()
    before = twins.uses.shortly
    for number in range(3):
        said = (
            ("x-request-id", f"only-here-{number}"),
            ("X-Correlation-Id", f"only-here-{number}"),
            ("Forwarded", f"for=only-here-{number}"),
            ("b3", f"{THEIRS}-{number:016x}-1"),
            ("X-B3-TraceId", THEIRS),
            ("x-datadog-tags", f"only-here-{number}"),
            ("x-datadog-origin", f"only-here-{number}"),
            ("X-Amzn-Trace-Id", f"Root=1-only-here-{number}"),
            ("X-Cloud-Trace-Context", f"{THEIRS}/{number}"),
            ("baggage", f"patient=only-here-{number}"),
        )
        reply = await read(twins, (*said, ("x-forwarded-for", address)), token)
        for theirs in ("only-here-", THEIRS):
            assert theirs.encode() not in reply.raw
            assert theirs not in json.dumps([*await told(twins)])
    assert twins.uses.shortly == before + 2


THEIRS = "abcdef0123456789abcdef0123456789"
INGRESSES: dict[str, Fields] = {
    "nginx": (
        ("X-Request-ID", "{id}"), ("X-Real-IP", "{address}"), ("X-Forwarded-For", "{address}"), ("X-Forwarded-Host", "gw"),
        ("X-Forwarded-Port", "443"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Scheme", "https"), ("X-Scheme", "https"),
        ("traceparent", "{trace}"),
    ),
    "traefik": (
        ("X-Forwarded-For", "{address}"), ("X-Forwarded-Host", "gw"), ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Proto", "https"), ("X-Forwarded-Server", "traefik-5d7"), ("X-Real-Ip", "{address}"),
    ),
    "istio": (
        ("X-Forwarded-For", "{address}"), ("X-Forwarded-Proto", "https"), ("X-Request-Id", "{id}"),
        ("X-B3-TraceId", "{id}"), ("X-B3-SpanId", "{span}"), ("X-B3-ParentSpanId", "{span}"), ("X-B3-Sampled", "1"),
    ),
    "datadog": (
        ("x-datadog-trace-id", "{port}"), ("x-datadog-parent-id", "{port}"), ("x-datadog-sampling-priority", "1"),
        ("x-datadog-tags", "_dd.p.dm=-{port},_dd.p.tid={span}"), ("X-Forwarded-For", "{address}"),
        ("traceparent", "{trace}"), ("tracestate", "dd=s:1;p:{span}"),
    ),
    "aws": (
        ("X-Forwarded-For", "{address}"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "443"),
        ("X-Amzn-Trace-Id", "Root=1-5759e988-{id}"),
    ),
    "google": (
        ("X-Cloud-Trace-Context", "{id}/{port};o=1"), ("traceparent", "{trace}"),
        ("X-Forwarded-For", "{address}, 127.0.0.1"), ("X-Forwarded-Proto", "https"), ("Via", "1.1 google"),
    ),
    "opentelemetry": (
        ("traceparent", "{trace}"), ("baggage", "session={id},region=eu;ttl=1"), ("b3", "{id}-{span}-1"),
        ("X-Forwarded-For", "{address}"),
    ),
    "one-that-names-ports": (("X-FORWARDED-FOR", "{address}:{port}"), ("X-Correlation-Id", "{id}")),
}  # fmt: skip


@pytest.mark.parametrize("ingress", INGRESSES)
async def test_reads_behind_an_ingress_follow_one_another(twins: Twins, ingress: str) -> None:
    token, address = fresh()
    before = twins.uses.shortly
    for number in range(4):
        own = {"id": f"{number:032x}", "address": address, "trace": trace(number), "port": str(1024 + number)}
        own["span"] = f"{number:016x}"
        fields = tuple((name, value.format(**own)) for name, value in INGRESSES[ingress])
        assert (await read(twins, fields, token, f"x{number}")).status == 200
    assert twins.uses.shortly == before + 3


async def test_all_of_them_may_be_in_one_head(twins: Twins) -> None:
    token, address = fresh()
    before = twins.uses.shortly
    for number in range(4):
        fields = tuple(
            (name.title(), values[number % len(values)]) for name, values in of(number, address).items()
        )
        reply = await read(twins, fields, token, f"x{number}")
        sent, record = await told(twins)
        assert (reply.status, record["trace"]) == (200, dict(fields)["Traceparent"])
        assert sent["tracestate"] == dict(fields)["Tracestate"]
    assert twins.uses.shortly == before + 3


GOOD = trace(7)
ODD_VALUES: dict[str, tuple[str, ...]] = {
    "traceparent": (
        "", " ", GOOD + " ", " " + GOOD, "\t" + GOOD, GOOD + "\t", GOOD + "\0", "\0", GOOD.upper() + "x", GOOD[:-1],
        GOOD + "-", GOOD.replace("8", "A"), "01" + GOOD[2:], "ff" + GOOD[2:], GOOD.replace("-", "_"), GOOD + "\r\n more",
        GOOD + "\r\n\tmore", GOOD + "\r\nTraceparent: " + GOOD, GOOD + "\r\ntraceparent: x", GOOD + "\r\nX-Request-Id: x",
        GOOD + "\r\nX_Request_Id: x", GOOD + "\n", GOOD + "\r", "\xe9" * 55, "x" * 55, "x" * 3000,
        "securus-mark-traceparent.", "securus-mark-t".ljust(55, "-"), GOOD + "\r\nTransfer-Encoding: chunked",
        GOOD + "\r\nContent-Length: 0", GOOD + "\r\nConnection: close", GOOD + "\r\nExpect: 100-continue",
    ),
    "tracestate": (
        "", "\0", "a=b ", "a=b\t", "x" * 513, "a=b\r\n c=d", "a=b\r\ntracestate: c=d", "\xe9",
    ),
    "x-request-id": (
        "", "a b", "x" * 129, "\0", "\x7f", "x\r\nx-request-id: y", "x\r\n y", "\xe9", "x ",
        GOOD + "\r\ntraceparent: " + trace(8),
    ),
    "x-correlation-id": (
        "", "a b", "x" * 129, "x\r\nX-CORRELATION-ID: y", "x\r\n y", "x\r\nX-Other: y",
    ),
    "forwarded": (
        "", "x" * 257, "for=a\r\nForwarded: for=b", "for=\0", "for=a ", "for=a\r\n b",
    ),
    "b3": (
        "", "\0", "2", "80f198ee56343ba864fe8b2a57d3eff7", "80F198EE56343BA864FE8B2A57D3EFF7-E457B5A2E4D86BD1", "0\r\nb3: 1",
        "0\r\n 1", "0 ", "\xe9", "securus-mark-b3.", "x" * 3000,
    ),
    "x-b3-traceid": ("", "x", "0" * 17, "0" * 33, "0" * 16 + "\r\nX-B3-TRACEID: " + "1" * 16),
    "x-b3-sampled": ("2", "1\r\nx-b3-sampled: 0", "1 "),
    "x-datadog-trace-id": ("", "-1", "1" * 21, "1\r\nx-datadog-trace-id: 2", "\0"),
    "x-datadog-tags": ("", "x" * 513, "a\r\n b", "\xe9", "a "),
    "x-amzn-trace-id": ("", "Root", "Root=1;", "Root=1\r\nx-amzn-trace-id: Root=2", "Root=1\tSelf=2", "\xe9"),
    "x-cloud-trace-context": ("", "0" * 31, "0" * 32 + "/", "0" * 32 + "\r\nX-Cloud-Trace-Context: " + "1" * 32),
    "baggage": (
        "", "a", "a=b,", "a=b c", "a= ", "a=b\r\nbaggage: c=d", "a=b\r\nBaggage: \xe9", "a=b\r\n c=d", "a=b\t",
        ",".join(["a=b"] * 65), "a=" + "b" * 8191, "\0", "a=\xe9", "a=b\r\nConnection: close",
    ),
    "x-forwarded-for": (
        "", "\0", "unknown", "10.0.0.1\r\n 10.0.0.2", "10.0.0.1\r\nX-Forwarded-For: 10.0.0.2", "1" * 300, "10.0.0.1 ",
    ),
}  # fmt: skip
ODD: list[Fields] = [
    *(((name, value),) for name, values in ODD_VALUES.items() for value in values),
    (("Traceparent ", GOOD),), (("trace_parent", GOOD),), (("traceparent", GOOD), ("TRACEPARENT", GOOD)),
    (("X_Request_Id", "x"),), (("X-Request-ID:", "x"),), (("x-request-id", "x"), ("X-REQUEST-ID", "x")),
    (("traceparent-x", GOOD),), (("x-traceparent", GOOD),), (("tracestate", GOOD), ("traceparent", "a=b")),
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(ODD)))
async def test_what_has_not_its_form_is_answered_as_if_none_had_gone_before(twins: Twins, at: int) -> None:
    """Between reads that have it, and after one with the same; where it is refused its connection ends."""
    token, address = fresh()

    async def ask(fields: Fields, gateway: RunningGateway) -> Reply:
        head = await twins.head(gateway, "/Observation/x", name=token, headers=fields)
        line = Line(gateway)
        try:
            return await line.ask(head)
        finally:
            await line.close()

    twins.store_answers(answering(plain(OBSERVATION)))
    behind: Fields = () if "x-forwarded-for" in dict(ODD[at]) else (("x-forwarded-for", address),)
    for number in range(6):
        if number in (2, 3, 5):
            await twins.same(partial(ask, (*ODD[at], *behind)))
        else:
            usual = tuple(
                (name, values[0]) for name, values in of(number, address).items() if name in dict(ODD[at])
            )
            assert (await twins.same(partial(ask, (*usual, *behind)))).status == 200


@pytest.mark.parametrize(
    "odd",
    [("traceparent", "x" * 55), ("traceparent", GOOD + "-x"), ("tracestate", "x" * 513), ("x-request-id", "a b"),
     ("x-correlation-id", "c" * 129), ("b3", "x"), ("x-b3-traceid", "0" * 17), ("x-datadog-trace-id", "1" * 21),
     ("x-amzn-trace-id", "Root"), ("x-cloud-trace-context", "0" * 31), ("baggage", ",".join(["a=b"] * 65))],
)  # fmt: skip
async def test_what_has_not_its_form_goes_the_long_way_also_after_the_same(
    twins: Twins, odd: tuple[str, str]
) -> None:
    token, address = fresh()
    before = twins.uses.followed
    for _ in range(3):
        assert (await read(twins, (odd, ("x-forwarded-for", address)), token)).status == 200
    assert twins.uses.followed == before


async def test_who_may_read_in_the_house_may_not_from_outside(twins: Twins) -> None:
    """One token, one connection of the ingress, one head but for the address that it names."""
    token, inside = fresh()
    who: dict[str, Any] = {"who": "dr1", "sub": token, "roles": ["physician"]}
    at_first = twins.uses.followed
    for round_ in range(3):
        for chain, peer, status in (
            (inside, inside, 200), (f"{inside}:4711", inside, 200), (f"203.0.113.9, {inside}", inside, 200),
            (f"203.0.113.{round_}", f"203.0.113.{round_}", 403), (f"{inside}, 203.0.113.9", "203.0.113.9", 403),
            (f"{inside}, 127.0.0.1, [::ffff:203.0.113.7]:1", "203.0.113.7", 403), ("2001:db8::7", "2001:db8::7", 200),
            ("unknown", "127.0.0.1", 403), (f"{inside}, x", "127.0.0.1", 403), (f"{inside}, .", "127.0.0.1", 403),
        ):  # fmt: skip
            before = twins.uses.followed
            fields = (("traceparent", trace(round_)), ("x-forwarded-for", chain))
            reply = await read(twins, fields, token, **who)
            assert (reply.status, (await told(twins))[1]["peer"]) == (status, peer)
            assert twins.uses.followed - before in ((0, 1) if status == 200 else (0,))
    assert twins.uses.followed >= at_first + 2 * 5  # the first of each address in the house aside


async def test_a_limit_of_an_address_is_spent_by_those_from_there_alone(twins: Twins) -> None:
    token, one = fresh()
    _, other = fresh()
    before = twins.uses.followed
    found: dict[str, list[int]] = {one: [], other: []}
    for number in range(BURST + 2):
        for address in (one, other)[: 2 if number < 3 else 1]:
            fields = (("x-forwarded-for", f"{address}:{number + 1}"), ("traceparent", trace(number)))
            found[address].append((await read(twins, fields, token)).status)
    assert found == {one: [200] * BURST + [429] * 2, other: [200] * 3}
    assert twins.uses.followed == before + BURST - 1 + 2


@pytest.mark.parametrize(
    "odd", ["a-stranger", "labels", "404", "500", "gzip", "spaces", "half-of-it", "another-id"]
)
async def test_a_read_that_leaves_the_usual_way_takes_its_own_values_along(twins: Twins, odd: str) -> None:
    """The record and what the store was asked have the trace of this read, not of the first."""
    token, address = fresh()
    for number in range(2):
        await read(twins, (("x-forwarded-for", address), ("traceparent", trace(number))), token)
    twins.store_answers(ODD_ANSWERS[odd])
    before = twins.uses.followed
    fields = (("x-forwarded-for", f"{address}:9"), ("traceparent", trace(9)))
    await twins.read("/Observation/x", name=token, headers=fields)
    sent, record = await told(twins)
    assert (sent["traceparent"], record["trace"], record["peer"]) == (trace(9), trace(9), address)
    assert twins.uses.followed == before + 1


@pytest.mark.parametrize("seed", range(4))
async def test_any_sequence_of_such_reads_is_answered_and_recorded_the_same(twins: Twins, seed: int) -> None:
    """Drawn: whose read, from where, which headers in which spelling and order, with good values and odd ones."""
    draw = random.Random(seed)
    token, before = fresh()[0], twins.uses.shortly
    for step in range(60):
        if step % 5 == 0:
            _, address = fresh()
        names = draw.choice((NAMES[:1], NAMES[:3], draw.sample(NAMES, draw.randrange(len(NAMES)))))
        fields = [(draw.choice((name, name.title())), draw.choice(of(step, address)[name])) for name in names]
        if draw.random() < 0.2:
            fields += draw.choice(ODD)
        fields.append(("X-FORWARDED-FOR", address))
        if len({name.lower() for name, _ in fields}) < len(fields) and draw.random() < 0.7:
            continue
        for _ in range(2):
            await read(twins, tuple(fields), token, draw.choice("xyz"))
    assert twins.uses.shortly > before + 10


async def test_proofs_are_claimed_whatever_else_varies(twins: Twins) -> None:
    token, address = fresh()
    behind = ("x-forwarded-for", address)
    for number in range(2):
        assert (await read(twins, (("traceparent", trace(number)), behind), token)).status == 200
    fields = (("traceparent", trace(3)), behind)
    heads = {id(g): await twins.head(g, "/Observation/x", name=token, headers=fields) for g in twins.each}
    again = {key: head.replace(trace(3).encode(), trace(4).encode()) for key, head in heads.items()}
    assert (await twins.same(lambda g: twins.line(g).ask(heads[id(g)]))).status == 200
    assert (await twins.same(lambda g: twins.line(g).ask(again[id(g)]))).status == 401
    assert twins.now[0] == NOW
