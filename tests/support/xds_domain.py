"""An XDS affinity domain on loopback: registry and repository at two ports, strict about what they are asked.

Everything is read with lxml, and assertions are verified with signxml: nothing of the gateway's own reads what it wrote.
"""

import email.parser
import email.policy
import hashlib
import re
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from lxml import etree
from signxml import SignatureMethod, XMLVerifier  # type: ignore[attr-defined]
from signxml.verifier import SignatureConfiguration

from gateway.demo.world import free_port

NS = {
    "env": "http://www.w3.org/2003/05/soap-envelope",
    "wsa": "http://www.w3.org/2005/08/addressing",
    "wsse": "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd",
    "query": "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0",
    "rim": "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0",
    "rs": "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0",
    "lcm": "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0",
    "xds": "urn:ihe:iti:xds-b:2007",
    "xop": "http://www.w3.org/2004/08/xop/include",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}
AUTHORITY = "1.3.6.1.4.1.21367.13.20.1000"
REPOSITORY = "1.19.6.24.109.42.1.5"
AUDIENCE = "urn:registry.example"
ISSUER = "urn:gateway.example"
_SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
_FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True)
_PIECE = 64 * 1024
_SCHEMES = {
    "class": "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a",
    "type": "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983",
    "confidentiality": "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f",
    "format": "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d",
    "facility": "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1",
    "practice": "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead",
}
PATIENT_ID = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"


@dataclass
class Registered:
    """An entry with its document."""

    id: str
    patient: str
    unique_id: str
    content: bytes
    type: str = "34133-9^^2.16.840.1.113883.6.1"
    confidentiality: str = "N^^2.16.840.1.113883.5.25"
    status: str = "Approved"
    created: str = "20260102030405"
    repository: str = REPOSITORY
    media_type: str = "text/xml"
    hash: str | None = None


class XdsDomain:
    """Registry and repository. wrong says in which way an answer is not as it should be."""

    def __init__(self, certificate: str, tls: ssl.SSLContext | None = None) -> None:
        self._certificate = certificate
        self._tls = tls
        self.port = free_port()
        self._runner = web.ServerRunner(web.Server(lambda request: self._answer(request), access_log=None))
        self.reset()

    def reset(self) -> None:
        """It holds nothing, and behaves."""
        self.entries: dict[str, Registered] = {}
        self.asked: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.claims: list[dict[str, list[str]]] = []
        self.codes: list[dict[str, list[tuple[str | None, str | None]]]] = []
        self.assertions: set[str] = set()
        self.provided: list[Any] = []
        self.peers: list[Any] = []
        self.complaints: list[str] = []
        self.wrong = ""
        self.sent = 0
        self.filler: tuple[bytes, int, bytes] | None = None

    @property
    def scheme(self) -> str:
        """http, or https where it has a certificate."""
        return "http" if self._tls is None else "https"

    def url(self, what: str) -> str:
        """The URL of registry, retrieve or provide."""
        return f"{self.scheme}://localhost:{self.port}/xds/{what}"

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()

    async def stop(self) -> None:
        """Do not."""
        await self._runner.cleanup()

    def register(self, content: bytes, patient: str, **more: Any) -> Registered:
        """A document more, about the patient with this identifier at the domain."""
        id_ = str(uuid.uuid4())
        found = Registered(
            id_, f"{patient}^^^&{AUTHORITY}&ISO", f"2.25.{uuid.UUID(id_).int}", content, **more
        )
        self.entries[id_] = found
        return found

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.peers.append(None if request.transport is None else request.transport.get_extra_info("peercert"))
        raw = await request.read()
        try:
            what = request.path.removeprefix("/xds/")
            media_type, said = _parameters(request.headers["Content-Type"])
            attached: bytes | None = None
            if what == "registry":
                assert media_type == "application/soap+xml", media_type
            else:
                kind = (media_type, said["type"], said["start-info"])
                assert kind == ("multipart/related", "application/xop+xml", "application/soap+xml"), kind
                raw, attached = _parts(request.headers["Content-Type"], raw, said["start"])
            envelope = etree.fromstring(raw, _PARSER)
            assert envelope.tag == f"{{{NS['env']}}}Envelope", envelope.tag
            action, message_id, body = self._checked(request, envelope, said)
            self.asked.append(action.rpartition(":")[2])
            if what == "registry":
                assert action == "urn:ihe:iti:2007:RegistryStoredQuery"
                return self._query(body, action, message_id)
            if what == "retrieve":
                assert action == "urn:ihe:iti:2007:RetrieveDocumentSet"
                return await self._retrieve(request, body, action, message_id)
            assert action == "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
            return self._provide(body, attached, action, message_id)
        except (AssertionError, KeyError, ValueError, etree.LxmlError) as error:
            self.complaints.append(repr(error))
            return web.Response(status=500, text=repr(error))

    def _checked(
        self, request: web.BaseRequest, envelope: Any, said: Mapping[str, str]
    ) -> tuple[str, str, Any]:
        action = envelope.xpath("string(env:Header/wsa:Action)", namespaces=NS)
        message_id = envelope.xpath("string(env:Header/wsa:MessageID)", namespaces=NS)
        to = envelope.xpath("string(env:Header/wsa:To)", namespaces=NS)
        reply = envelope.xpath("string(env:Header/wsa:ReplyTo/wsa:Address)", namespaces=NS)
        assert said["action"] == action, (said, action)
        assert message_id.startswith("urn:uuid:")
        assert to == f"{self.scheme}://{request.host}{request.path}", to
        assert reply == "http://www.w3.org/2005/08/addressing/anonymous"
        assert envelope.xpath("env:Header/wsa:Action/@env:mustUnderstand", namespaces=NS) == ["true"]
        (assertion,) = envelope.xpath("env:Header/wsse:Security/saml:Assertion", namespaces=NS)
        self._check_assertion(assertion)
        (body,) = envelope.xpath("env:Body/*", namespaces=NS)
        return action, message_id, body

    def _check_assertion(self, assertion: Any) -> None:
        # As it stands in the envelope: a signature that holds only for what is cut out would not hold here.
        expected = SignatureConfiguration(
            signature_methods=frozenset({SignatureMethod.RSA_SHA256, SignatureMethod.ECDSA_SHA256})
        )
        verified = XMLVerifier().verify(
            etree.tostring(assertion.getroottree()),
            x509_cert=self._certificate,
            id_attribute="ID",
            expect_config=expected,
        )
        assert not isinstance(verified, list)
        signed = verified.signed_xml
        assert signed is not None
        assert signed.get("ID") == assertion.get("ID")
        assert signed.get("Version") == "2.0"
        assert signed.get("ID") not in self.assertions, "said twice"
        self.assertions.add(str(signed.get("ID")))
        assert signed.xpath("string(saml:Issuer)", namespaces=NS) == ISSUER
        audience = "string(saml:Conditions/saml:AudienceRestriction/saml:Audience)"
        assert signed.xpath(audience, namespaces=NS) == AUDIENCE
        claims = {"NameID": [str(signed.xpath("string(saml:Subject/saml:NameID)", namespaces=NS))]}
        codes = {}
        for each in signed.xpath("saml:AttributeStatement/saml:Attribute", namespaces=NS):
            name = each.get("Name").rpartition(":")[2]
            values = each.xpath("saml:AttributeValue", namespaces=NS)
            claims[name] = [value.text for value in values if value.text]
            codes[name] = [(one.get("code"), one.get("codeSystem")) for value in values for one in value]
        before, after = (
            signed.xpath(f"string(saml:Conditions/@{name})", namespaces=NS)
            for name in ("NotBefore", "NotOnOrAfter")
        )
        claims["times"] = [str(before), str(signed.get("IssueInstant")), str(after)]
        self.claims.append(claims)
        self.codes.append(codes)

    # ITI-18

    def _query(self, body: Any, action: str, message_id: str) -> web.Response:
        assert body.tag == f"{{{NS['query']}}}AdhocQueryRequest"
        assert body.xpath("string(query:ResponseOption/@returnType)", namespaces=NS) == "LeafClass"
        slots = {
            each.get("name"): each.xpath("string(rim:ValueList/rim:Value)", namespaces=NS)
            for each in body.xpath("rim:AdhocQuery/rim:Slot", namespaces=NS)
        }
        self.queries.append(slots)
        query = body.xpath("string(rim:AdhocQuery/@id)", namespaces=NS)
        if query == "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d":
            wanted = _one(slots["$XDSDocumentEntryPatientId"])
            statuses = {each.rpartition(":")[2] for each in _many(slots["$XDSDocumentEntryStatus"])}
            types = (
                _many(slots["$XDSDocumentEntryTypeCode"]) if "$XDSDocumentEntryTypeCode" in slots else None
            )
            begin = _one(slots.get("$XDSDocumentEntryCreationTimeFrom", "''"))
            stop = _one(slots.get("$XDSDocumentEntryCreationTimeTo", "'9'"))
            found = [
                each
                for each in self.entries.values()
                if (each.patient == wanted or self.wrong == "another patient")
                and each.status in statuses
                and (types is None or each.type in types)
                and begin <= each.created < stop
            ]
        else:
            assert query == "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4", query
            named = {each.removeprefix("urn:uuid:") for each in _many(slots["$XDSDocumentEntryEntryUUID"])}
            found = [each for id_, each in self.entries.items() if id_ in named or self.wrong == "more"]
        listed = "".join(map(_extrinsic, found))
        return self._soap(
            action,
            message_id,
            f'<query:AdhocQueryResponse xmlns:query="{NS["query"]}" xmlns:rim="{NS["rim"]}" status="{_SUCCESS}">'
            f"<rim:RegistryObjectList>{listed}</rim:RegistryObjectList></query:AdhocQueryResponse>",
        )

    def _envelope(self, action: str, message_id: str, body: str) -> bytes:
        doctype = '<!DOCTYPE x [<!ENTITY a "b">]>' if self.wrong == "doctype" else ""
        action = "urn:other" if self.wrong == "action" else action
        message_id = "urn:uuid:0" if self.wrong == "relates" else message_id
        if self.wrong == "fault":
            body = "<env:Fault><env:Code><env:Value>env:Receiver</env:Value></env:Code></env:Fault>"
        text = (
            f'{doctype}<env:Envelope xmlns:env="{NS["env"]}" xmlns:wsa="{NS["wsa"]}"><env:Header>'
            f"<wsa:Action>{action}Response</wsa:Action><wsa:RelatesTo>{message_id}</wsa:RelatesTo></env:Header>"
            f"<env:Body>{body}</env:Body></env:Envelope>"
        )
        return text.encode()

    def _soap(self, action: str, message_id: str, body: str) -> web.Response:
        content = self._envelope(action, message_id, body)
        return web.Response(body=content, content_type="application/soap+xml", charset="utf-8")

    # ITI-43

    async def _retrieve(
        self, request: web.BaseRequest, body: Any, action: str, message_id: str
    ) -> web.StreamResponse:
        assert body.tag == f"{{{NS['xds']}}}RetrieveDocumentSetRequest"
        (asked,) = body.xpath("xds:DocumentRequest", namespaces=NS)
        repository = asked.xpath("string(xds:RepositoryUniqueId)", namespaces=NS)
        name = asked.xpath("string(xds:DocumentUniqueId)", namespaces=NS)
        found = next((each for each in self.entries.values() if each.unique_id == name), None)
        assert repository == REPOSITORY, repository
        if found is None or self.wrong == "gone":
            error = '<rs:RegistryError errorCode="XDSDocumentUniqueIdError" codeContext="-" severity="-"/>'
            return self._soap(
                action,
                message_id,
                f'<xds:RetrieveDocumentSetResponse xmlns:xds="{NS["xds"]}" xmlns:rs="{NS["rs"]}">'
                f'<rs:RegistryResponse status="{_FAILURE}"><rs:RegistryErrorList>{error}</rs:RegistryErrorList>'
                "</rs:RegistryResponse></xds:RetrieveDocumentSetResponse>",
            )
        said = "9.9.9" if self.wrong == "another document" else name
        href = "cid:other@x" if self.wrong == "href" else "cid:1.urn%3Auuid@x"
        envelope = self._envelope(
            action,
            message_id,
            f'<xds:RetrieveDocumentSetResponse xmlns:xds="{NS["xds"]}" xmlns:rs="{NS["rs"]}">'
            f'<rs:RegistryResponse status="{_SUCCESS}"/><xds:DocumentResponse>'
            f"<xds:RepositoryUniqueId>{repository}</xds:RepositoryUniqueId>"
            f"<xds:DocumentUniqueId>{said}</xds:DocumentUniqueId><xds:mimeType>text/xml</xds:mimeType>"
            f'<xds:Document><xop:Include xmlns:xop="{NS["xop"]}" href="{href}"/></xds:Document>'
            "</xds:DocumentResponse></xds:RetrieveDocumentSetResponse>",
        )
        answer = web.StreamResponse()
        answer.headers["Content-Type"] = (
            'multipart/related; boundary="MIMEBoundary_1"; type="application/xop+xml"; '
            'start="<0.urn:uuid@x>"; start-info="application/soap+xml"'
        )
        await answer.prepare(request)
        head = (
            b'--MIMEBoundary_1\r\nContent-Type: application/xop+xml; charset=utf-8; type="application/soap+xml"\r\n'
            b"Content-Transfer-Encoding: binary\r\nContent-ID: <0.urn:uuid@x>\r\n\r\n" + envelope + b"\r\n"
            b"--MIMEBoundary_1\r\nContent-Type: text/xml\r\nContent-Transfer-Encoding: binary\r\n"
            b"Content-ID: <1.urn:uuid@x>\r\n\r\n"
        )
        await answer.write(head)
        async for piece in self._pieces(found):
            await answer.write(piece)
            self.sent += len(piece)
        if self.wrong != "cut":
            await answer.write(b"\r\n--MIMEBoundary_1--\r\n")
        return answer

    async def _pieces(self, found: Registered) -> AsyncIterator[bytes]:
        if self.filler is None:
            yield found.content
            return
        begin, count, end = self.filler
        yield begin
        for _ in range(count):
            yield b"A" * _PIECE
        yield end

    # ITI-41

    def _provide(self, body: Any, attached: bytes | None, action: str, message_id: str) -> web.Response:
        assert body.tag == f"{{{NS['xds']}}}ProvideAndRegisterDocumentSetRequest"
        assert attached is not None
        (entry,) = body.xpath(".//rim:ExtrinsicObject", namespaces=NS)
        (document,) = body.xpath("xds:Document", namespaces=NS)
        assert document.get("id") == entry.get("id")
        assert document.xpath("xop:Include", namespaces=NS)
        codes = {}
        for name, scheme in _SCHEMES.items():
            (found,) = entry.xpath(f"rim:Classification[@classificationScheme='{scheme}']", namespaces=NS)
            system = found.xpath(
                "string(rim:Slot[@name='codingScheme']/rim:ValueList/rim:Value)", namespaces=NS
            )
            codes[name] = f"{found.get('nodeRepresentation')}^^{system}"
            assert all((found.get("nodeRepresentation"), system)), name
        names = {
            each.get("identificationScheme"): each.get("value")
            for each in entry.xpath("rim:ExternalIdentifier", namespaces=NS)
        }
        slots = {
            each.get("name"): each.xpath("string(rim:ValueList/rim:Value)", namespaces=NS)
            for each in entry.xpath("rim:Slot", namespaces=NS)
        }
        (package,) = body.xpath(".//rim:RegistryPackage", namespaces=NS)
        (member,) = body.xpath(".//rim:Association", namespaces=NS)
        assert (member.get("sourceObject"), member.get("targetObject")) == (
            package.get("id"),
            entry.get("id"),
        )
        assert body.xpath(".//rim:Classification[@classificationNode]/@classifiedObject", namespaces=NS) == [
            package.get("id")
        ]
        assert len(package.xpath("rim:ExternalIdentifier", namespaces=NS)) == 3
        id_ = entry.get("id").removeprefix("urn:uuid:")
        self.entries[id_] = Registered(
            id_, names[PATIENT_ID], names[UNIQUE_ID], attached, codes["type"], codes["confidentiality"]
        )
        self.entries[id_].created = slots["creationTime"]
        self.provided.append({"codes": codes, "slots": slots, "names": names, "content": attached})
        status = _FAILURE if self.wrong == "refused" else _SUCCESS
        return self._soap(
            action, message_id, f'<rs:RegistryResponse xmlns:rs="{NS["rs"]}" status="{status}"/>'
        )


def _extrinsic(entry: Registered) -> str:
    def slot(name: str, value: str) -> str:
        return f'<rim:Slot name="{name}"><rim:ValueList><rim:Value>{value}</rim:Value></rim:ValueList></rim:Slot>'

    def classified(name: str, text: str) -> str:
        code, _, system = text.partition("^^")
        return (
            f'<rim:Classification classificationScheme="{_SCHEMES[name]}" classifiedObject="urn:uuid:{entry.id}" '
            f'id="urn:uuid:{uuid.uuid4()}" nodeRepresentation="{code}">{slot("codingScheme", system)}'
            f'<rim:Name><rim:LocalizedString value="{code} shown"/></rim:Name></rim:Classification>'
        )

    def identified(scheme: str, value: str) -> str:
        value = value.replace("&", "&amp;")
        return f'<rim:ExternalIdentifier id="x" identificationScheme="{scheme}" registryObject="y" value="{value}"/>'

    hash_ = (
        hashlib.sha1(entry.content, usedforsecurity=False).hexdigest() if entry.hash is None else entry.hash
    )
    return (
        f'<rim:ExtrinsicObject id="urn:uuid:{entry.id}" mimeType="{entry.media_type}" '
        'objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1" '
        f'status="urn:oasis:names:tc:ebxml-regrep:StatusType:{entry.status}">'
        + slot("creationTime", entry.created)
        + (slot("hash", hash_) if hash_ else "")
        + slot("repositoryUniqueId", entry.repository)
        + (slot("size", str(len(entry.content))) if hash_ else "")
        + '<rim:Name><rim:LocalizedString value="A title"/></rim:Name>'
        + classified("type", entry.type)
        + classified("confidentiality", entry.confidentiality)
        + identified(PATIENT_ID, entry.patient)
        + identified(UNIQUE_ID, entry.unique_id)
        + "</rim:ExtrinsicObject>"
    )


def _parameters(content_type: str) -> tuple[str, dict[str, str]]:
    message = email.message_from_string(f"Content-Type: {content_type}\n\n", policy=email.policy.HTTP)
    return message.get_content_type(), {k: str(v) for k, v in (message.get_params() or [])[1:]}


def _parts(content_type: str, raw: bytes, start: str) -> tuple[bytes, bytes | None]:
    """Envelope and document of a request, taken apart by the standard library."""
    whole = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        f"Content-Type: {content_type}\r\n\r\n".encode() + raw
    )
    parts = [each for each in whole.iter_parts()]  # type: ignore[attr-defined]
    assert parts[0]["Content-ID"] == start, "the envelope comes first"
    boundary = re.search(r'boundary="([^"]+)"', content_type)
    assert boundary is not None
    pieces = raw.split(f"--{boundary[1]}".encode())
    bodies = [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces[1:-1]]
    assert pieces[-1] == b"--\r\n"
    assert len(bodies) in (1, 2)
    return bodies[0], bodies[1] if len(bodies) == 2 else None


def _one(text: str) -> str:
    assert text[:1] == "'" == text[-1:], text
    return text[1:-1].replace("''", "'")


def _many(text: str) -> list[str]:
    assert (text[:1], text[-1:]) == ("(", ")"), text
    return [_one(each) for each in text[1:-1].split(",")]
