"""/consents: consents as plain JSON, a thin translation to FHIR requests of the same caller at the same passage.

Nothing is decided here. The caller is authenticated once, by the token and proof of the request itself, and every FHIR
request that it becomes is decided, filtered and recorded as if it had come by itself.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from authz.clock import Clock
from authz.http import json_answer, method_not_allowed
from authz.keys import KeyRing
from authz.protocol.encoding import parse_query, strict_json
from authz.protocol.request import Answer, BytesBody, EmptyBody, HttpRequest, RequestError
from gateway.consent_service import receipts
from gateway.consent_service.plain import PlainError, amended, as_plain, consent_from
from gateway.consent_service.rules import advice
from gateway.consent_service.versions import with_status
from gateway.fhir.ids import is_id
from gateway.fhir.resource import parse_resource, write_resource
from gateway.proxy.pipeline import Passage
from gateway.proxy.whole_answers import BrokenOff, TooLong, whole_body
from gateway.settings import Upstream

PATH = "/consents"
_MAX_BODY = 256 * 1024
_MAX_DEPTH = 64
_MAX_ANSWER = 16 * 1024 * 1024
_SEARCHED = frozenset(
    {
        "patient",
        "status",
        "scope",
        "category",
        "actor",
        "date",
        "period",
        "identifier",
        "purpose",
        "organization",
    }
)
_KEPT_HEADERS = frozenset({"authorization", "dpop", "traceparent", "tracestate", "x-fapi-interaction-id"})
_PASSED = frozenset(
    {
        "etag",
        "last-modified",
        "dpop-nonce",
        "www-authenticate",
        "retry-after",
        "x-fapi-interaction-id",
        "location",
    }
)
_PAGE = re.compile(r"[A-Za-z0-9_-]{1,7600}")
Ask = Callable[[HttpRequest], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class KeptBase:
    """A base whose consents are kept here, and the passage to it."""

    upstream: Upstream
    passage: Passage


class Refused(Exception):
    """A request that is not passed on, or whose FHIR request was refused; answer says so."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class ConsentApi:
    """The doors below /consents."""

    def __init__(
        self, bases: Sequence[KeptBase], *, keys: KeyRing, issuer: str, organisation: str, clock: Clock
    ) -> None:
        self._bases = {each.upstream.name: each for each in bases}
        self._keys = keys
        self._issuer = issuer
        self._organisation = organisation
        self._clock = clock

    def serves(self, path: str) -> bool:
        """Whether a door is at this path."""
        return bool(self._bases) and (path == PATH or path.startswith(f"{PATH}/"))

    async def handle(self, http: HttpRequest) -> Answer:
        """The answer to a request below /consents."""
        try:
            query = dict(_pairs(http))
            kept = self._base(query.pop("base", None))
            work = self._door(http, kept, query)
        except Refused as error:
            return error.answer

        async def asked(ask: Ask) -> Answer:
            try:
                return await work(ask)
            except Refused as error:
                return error.answer
            except RequestError as error:
                return _refused(error.status, "invalid_request", error.description).answer

        answer = await kept.passage.on_behalf(http, asked)
        return answer if answer.status < 400 else _in_plain(answer)

    def _base(self, name: str | None) -> KeptBase:
        if name is None and len(self._bases) == 1:
            return next(iter(self._bases.values()))
        found = self._bases.get(name or "")
        if found is None:
            raise _refused(400, "invalid_request", f"base must be one of {', '.join(sorted(self._bases))}")
        return found

    def _door(
        self, http: HttpRequest, kept: KeptBase, query: dict[str, str]
    ) -> Callable[[Ask], Awaitable[Answer]]:
        """What is to be done. Raises Refused."""
        parts = http.path[len(PATH) :].strip("/").split("/")
        id_ = parts[0]
        if id_ and not is_id(id_):
            raise _refused(404, "not_found", "there is no such consent")
        doors: Mapping[str, Callable[[Ask], Awaitable[Answer]]]
        match parts[1:]:
            case [] if not id_:
                doors = {
                    "GET": lambda ask: self._list(http, kept, query, ask),
                    "POST": lambda ask: self._create(http, kept, ask),
                }
            case []:
                doors = {
                    "GET": lambda ask: self._read(http, kept, id_, ask),
                    "PATCH": lambda ask: self._amend(http, kept, id_, ask),
                }
            case ["revoke"]:
                doors = {"POST": lambda ask: self._revoke(http, kept, id_, ask)}
            case ["history"]:
                doors = {"GET": lambda ask: self._history(http, kept, id_, ask)}
            case ["receipt"]:
                doors = {"GET": lambda ask: self._receipt(http, kept, id_, ask)}
            case _:
                raise _refused(404, "not_found", "nothing is at this path")
        if http.method not in doors:
            raise Refused(method_not_allowed(sorted(doors)))
        if query and parts != [""]:
            raise _refused(400, "invalid_request", f"'{min(query)[:40]}' is not a parameter here")
        return doors[http.method]

    async def _list(self, http: HttpRequest, kept: KeptBase, query: dict[str, str], ask: Ask) -> Answer:
        if "page" in query:
            if len(query) > 1 or not _PAGE.fullmatch(query["page"]):
                raise _refused(400, "invalid_request", "page stands alone, as it was given")
            asked = f"_page={query['page']}"
        else:
            named = {"_count" if name == "count" else name: text for name, text in query.items()}
            unknown = sorted(named.keys() - _SEARCHED - {"_count"})
            if unknown:
                raise _refused(400, "invalid_request", f"'{unknown[0][:40]}' is not a parameter here")
            asked = urlencode(named)
        answer, bundle = await _resource(ask, _request(http, kept, "GET", "/Consent", query=asked))
        found: dict[str, object] = {
            "consents": [as_plain(entry["resource"]) for entry in bundle.get("entry", [])]
        }
        for link in bundle.get("link", []):
            if link.get("relation") == "next":
                token = dict(parse_query(urlsplit(link["url"]).query)).get("_page", "")
                found["next"] = f"{PATH}?{urlencode({'base': kept.upstream.name, 'page': token})}"
        return _answer(200, found, answer)

    async def _create(self, http: HttpRequest, kept: KeptBase, ask: Ask) -> Answer:
        try:
            value = consent_from(await _body(http))
        except PlainError as error:
            raise _refused(400, "invalid_request", str(error)) from error
        answer, made = await _resource(ask, _request(http, kept, "POST", "/Consent", value))
        said = as_plain(made) | {"advice": advice(made)}
        return _answer(201, said, answer, place=f"{PATH}/{made.get('id')}")

    async def _read(self, http: HttpRequest, kept: KeptBase, id_: str, ask: Ask) -> Answer:
        answer, value = await _resource(ask, _request(http, kept, "GET", f"/Consent/{id_}"))
        return _answer(200, as_plain(value), answer)

    async def _amend(self, http: HttpRequest, kept: KeptBase, id_: str, ask: Ask) -> Answer:
        plain = await _body(http)
        answer, _ = await _resource(ask, _request(http, kept, "GET", f"/Consent/{id_}"))
        try:
            after = amended(_exactly(answer), plain)
        except PlainError as error:
            raise _refused(400, "invalid_request", str(error)) from error
        return await self._put(http, kept, id_, after, answer, ask)

    async def _revoke(self, http: HttpRequest, kept: KeptBase, id_: str, ask: Ask) -> Answer:
        said = await _body(http)
        reason = said.get("reason")
        if said.keys() != {"reason"} or not isinstance(reason, str) or not 0 < len(reason.strip()) <= 500:
            raise _refused(
                400, "invalid_request", "reason must be said, in 1 to 500 characters, and nothing else"
            )
        answer, _ = await _resource(ask, _request(http, kept, "GET", f"/Consent/{id_}"))
        after = with_status(_exactly(answer), "inactive", reason.strip())
        return await self._put(http, kept, id_, after, answer, ask)

    async def _put(
        self, http: HttpRequest, kept: KeptBase, id_: str, after: dict[str, Any], read: Answer, ask: Ask
    ) -> Answer:
        tag = http.headers.get("if-match") or _header(read, "etag")
        sent = _request(http, kept, "PUT", f"/Consent/{id_}", after, more={"if-match": tag})
        answer, value = await _resource(ask, sent)
        return _answer(200, as_plain(value), answer)

    async def _history(self, http: HttpRequest, kept: KeptBase, id_: str, ask: Ask) -> Answer:
        answer, bundle = await _resource(ask, _request(http, kept, "GET", f"/Consent/{id_}/_history"))
        return _answer(
            200, {"versions": [as_plain(each["resource"]) for each in bundle.get("entry", [])]}, answer
        )

    async def _receipt(self, http: HttpRequest, kept: KeptBase, id_: str, ask: Ask) -> Answer:
        answer, value = await _resource(ask, _request(http, kept, "GET", f"/Consent/{id_}"))
        raw = answer.body if isinstance(answer.body, bytes) else b""
        claims = receipts.receipt_claims(
            value,
            raw,
            issuer=self._issuer,
            base=kept.upstream.identifier,
            organisation=self._organisation,
            now=self._clock(),
        )
        signed = await self._keys.sign(claims, typ=receipts.TYPE)
        lines = receipts.in_words(value)
        if "text/html" in http.headers.get("accept", ""):
            kind = ("Content-Type", "text/html; charset=utf-8")
            policy = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
            return Answer(
                200,
                (kind, policy, *_NOSTORE, *_passed(answer)),
                receipts.page(lines, signed, jwks=f"{self._issuer}/jwks"),
            )
        return _answer(200, {"receipt": signed, "words": lines}, answer)


_NOSTORE = (("Cache-Control", "no-store, private"), ("X-Content-Type-Options", "nosniff"))


def _request(
    http: HttpRequest,
    kept: KeptBase,
    method: str,
    path: str,
    value: Mapping[str, Any] | None = None,
    *,
    query: str = "",
    more: Mapping[str, str] | None = None,
) -> HttpRequest:
    """The FHIR request that this becomes. url stays: it is what the caller's proof names."""
    headers = {name: http.headers[name] for name in _KEPT_HEADERS if name in http.headers}
    headers |= {"accept": "application/fhir+json", **(more or {})}
    body = b"" if value is None else write_resource(value)
    if body:
        headers |= {"content-type": "application/fhir+json", "content-length": str(len(body))}
    return replace(
        http,
        method=method,
        path=f"{kept.upstream.at}{path}",
        query=query,
        headers=headers,
        body=BytesBody(body) if body else EmptyBody(),
    )


async def _resource(ask: Ask, request: HttpRequest) -> tuple[Answer, dict[str, Any]]:
    """The answer to a FHIR request, whole, and its resource. Raises Refused for every other answer."""
    answer = await ask(request)
    try:
        body = await whole_body(answer, max_bytes=_MAX_ANSWER)
    except TooLong as error:
        raise _refused(413, "too_large", "the answer is too long: ask for less") from error
    except BrokenOff as error:
        raise _refused(502, "unavailable", "the answer broke off: ask again") from error
    answer = replace(answer, body=body)
    if answer.status >= 300 or not body:
        raise Refused(answer)
    value: dict[str, Any] = json.loads(body)
    return answer, value


def _exactly(answer: Answer) -> dict[str, Any]:
    """The resource of an answer, to be written back: every number as it was."""
    return parse_resource(answer.body if isinstance(answer.body, bytes) else b"")


async def _body(http: HttpRequest) -> dict[str, Any]:
    """The JSON object that was sent. Raises Refused, RequestError."""
    media = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" or "content-encoding" in http.headers:
        raise _refused(415, "invalid_request", "the body must be application/json, not compressed")
    try:
        value = strict_json(await http.body.read(_MAX_BODY), max_bytes=_MAX_BODY, max_depth=_MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        raise _refused(400, "invalid_request", "the body is not JSON with one reading") from error
    if not isinstance(value, dict):
        raise _refused(400, "invalid_request", "the body must be an object")
    return value


def _pairs(http: HttpRequest) -> list[tuple[str, str]]:
    try:
        pairs = parse_query(http.query)
    except ValueError as error:
        raise _refused(400, "invalid_request", "the query has no single reading") from error
    if len(dict(pairs)) != len(pairs):
        raise _refused(400, "invalid_request", "a parameter is sent more than once")
    return pairs


def _answer(status: int, value: object, answer: Answer, *, place: str | None = None) -> Answer:
    passed = tuple(each for each in _passed(answer) if each[0].lower() != "location")
    return json_answer(status, value, (*passed, *((("Location", place),) if place else ())))


def _in_plain(answer: Answer) -> Answer:
    """A refusal of the passage in the words of this API; what is none stays as it is."""
    try:
        issue = json.loads(answer.body if isinstance(answer.body, bytes) else b"")["issue"][0]
    except (ValueError, KeyError, IndexError, TypeError):
        return answer
    details = issue.get("details", {})
    reason = next((str(each.get("code")) for each in details.get("coding", [])), "refused")
    said = " ".join(filter(None, (details.get("text"), issue.get("diagnostics"))))
    value = {"error": reason, "error_description": said}
    return json_answer(answer.status, value, _passed(answer))


def _passed(answer: Answer) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name, text in answer.headers if name.lower() in _PASSED)


def _header(answer: Answer, name: str) -> str:
    return next((text for said, text in answer.headers if said.lower() == name), "")


def _refused(status: int, code: str, said: str) -> Refused:
    return Refused(json_answer(status, {"error": code, "error_description": said}))
