"""One endpoint of XDS, with the gateway's own certificate where that is configured (IHE ATNA, ITI-19)."""

import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace

from yarl import URL

from authz.clock import Clock
from authz.outgoing_tls import client_context
from gateway.document_services.xds import envelopes, soap_answers
from gateway.document_services.xds.assertion import Assertions
from gateway.document_services.xds.canonical_xml import Element
from gateway.document_services.xds.multipart import Parts, parameters_of
from gateway.document_services.xds.soap_answers import Node
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.acting import ACTING
from gateway.proxy.answers.delivery import check_coding
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream
from gateway.xds_settings import SoapTls

_SOAP = "application/soap+xml"
_XOP = "application/xop+xml"
_PASSED = ("traceparent", "tracestate", "x-request-id")


class SoapEndpoint(UpstreamClient):
    """Sends messages to one URL."""

    def __init__(
        self,
        upstream: Upstream,
        url: str,
        observe: Callable[[float], None],
        *,
        tls: SoapTls,
        assertions: Assertions | None,
        clock: Clock,
    ) -> None:
        # What the registry knows the gateway by is not for others to see.
        authorization = upstream.authorization if _origin(url) == _origin(upstream.base) else None
        super().__init__(replace(upstream, base=url, authorization=authorization), observe)
        self._tls = tls
        self._assertions = assertions
        self._clock = clock

    def tls(self) -> ssl.SSLContext:
        """How the endpoint is believed, and our certificate."""
        files = self._tls
        authorities = None if files.authorities is None else str(files.authorities)
        context = client_context(authorities)
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key)
        return context

    async def ask(self, action: str, body: Element, headers: Mapping[str, str]) -> Node:
        """The answer to an envelope by itself. Raises FhirError."""
        message_id, content = self._envelope(action, body)
        sent = self._headers(headers) | {"content-type": envelopes.plain_type(action)}
        answer = await self.send("POST", "", sent, content)
        try:
            _check(answer)
            said, _ = parameters_of(answer.headers.get("content-type", ""))
            if said != _SOAP:
                raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not SOAP 1.2")
            raw = await answer.read(self.upstream.max_resource)
        finally:
            answer.close()
        return soap_answers.body_of(raw, action=action, message_id=message_id)

    async def ask_mtom(
        self,
        action: str,
        body: Element,
        headers: Mapping[str, str],
        document: AsyncIterator[bytes] | None = None,
        media_type: str = "",
    ) -> tuple[Node, "Parts | None", UpstreamAnswer]:
        """The answer to an envelope as MTOM, with a document in a part of its own where there is one.

        The parts behind the answer's envelope are yet to be read, and the answer to be closed. Raises FhirError.
        """
        message_id, content = self._envelope(action, body)
        boundary = f"securus-{uuid.uuid4()}"
        sent = self._headers(headers) | {"content-type": envelopes.mtom_type(action, boundary)}
        root = envelopes.root_part(action, boundary, content)
        if document is None:
            answer = await self.send("POST", "", sent, root + envelopes.end(boundary))
        else:
            head = root + envelopes.document_head(boundary, media_type)
            answer = await self.send("POST", "", sent, _joined(head, document, boundary))
        try:
            _check(answer)
            said, told = parameters_of(answer.headers.get("content-type", ""))
            if said == _SOAP:  # what has no attachment need not be in parts
                raw, parts = await answer.read(self.upstream.max_resource), None
            else:
                raw, parts = await self._root(said, told, answer)
            return soap_answers.body_of(raw, action=action, message_id=message_id), parts, answer
        except BaseException:
            answer.close()
            raise

    async def _root(self, said: str, told: Mapping[str, str], answer: UpstreamAnswer) -> tuple[bytes, Parts]:
        if said != "multipart/related" or told.get("type", "").lower() != _XOP:
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not MTOM")
        parts = Parts(answer.stream(), told.get("boundary", ""))
        head = await parts.head()
        if head is None or parameters_of(head.get("content-type", ""))[0] != _XOP:
            raise FhirError(Reason.UPSTREAM_INVALID, "the first part of the answer is not its envelope")
        if "start" in told and told["start"] != head.get("content-id"):
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer does not start with its envelope")
        return await parts.whole(self.upstream.max_resource), parts

    def _envelope(self, action: str, body: Element) -> tuple[str, bytes]:
        caller, assertion = ACTING.get(), None
        if self._assertions is not None and caller is None:  # nobody whose name could be given
            raise FhirError(Reason.UPSTREAM_UNAVAILABLE)
        message_id = f"urn:uuid:{uuid.uuid4()}"
        try:
            if self._assertions is not None and caller is not None:
                assertion = self._assertions.about(caller, id_=f"_{uuid.uuid4()}", now=self._clock())
            return message_id, envelopes.envelope(action, self.upstream.base, message_id, assertion, body)
        except ValueError as error:
            raise FhirError(Reason.INVALID_BODY, "a value holds a character that XML cannot hold") from error

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        sent = {name: headers[name] for name in _PASSED if name in headers}
        sent |= {"accept": f"{_SOAP}, multipart/related", "accept-encoding": "identity"}
        if self.upstream.authorization is not None:
            sent["authorization"] = self.upstream.authorization
        return sent


def _origin(url: str) -> URL:
    return URL(url).origin()


async def _joined(head: bytes, document: AsyncIterator[bytes], boundary: str) -> AsyncIterator[bytes]:
    yield head
    async for piece in document:
        yield piece
    yield b"\r\n" + envelopes.end(boundary)


def _check(answer: UpstreamAnswer) -> None:
    if answer.status != 200:
        raise FhirError(
            Reason.UPSTREAM_INVALID, "the registry or repository answered with an error of its own"
        )
    check_coding(answer)
