"""Certificates of clients that come and go while the listener runs: handshakes in memory, with real contexts."""

import asyncio
import base64
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authz.outgoing_tls import client_context
from authz.protocol.clients import AuthenticationMethod, Client, GrantType
from gateway import tls
from gateway.settings import Listener, TlsFiles
from gateway.wire.peers import peer_of
from tests.support.jose import (
    Authority,
    PrivateKey,
    certificate_authority,
    distinguished_name,
    ec_key,
    issue_certificate,
    make_certificate,
    pem,
    public_jwk,
)

TIMES = {
    "not_before": int(time.time()) - 3600,
    "not_after": int(time.time()) + 86400,
}  # OpenSSL has its own clock


def key_pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


class Peer:
    """A client with a key and a certificate of its own making."""

    def __init__(self, folder: Path, name: str, *, ca: bool = False) -> None:
        self.key = ec_key()
        subject = distinguished_name(("common_name", name))
        extensions = [(x509.BasicConstraints(ca=ca, path_length=None), True)]
        self.certificate = make_certificate(
            self.key, subject, subject, self.key, extensions=extensions, **TIMES
        )
        self.der = self.certificate.public_bytes(Encoding.DER)
        self.file = folder / f"{name}.pem"
        self.file.write_text(pem(self.der) + key_pem(self.key))

    def client(self) -> Client:
        jwk = public_jwk(self.key, x5c=[base64.b64encode(self.der).decode("ascii")])
        return Client(
            client_id=self.file.stem,
            name="client",
            authentication_method=AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH,
            scope=("system/*.rs",),
            grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}),
            jwks=(jwk,),
        )

    def issue(self, folder: Path) -> Path:
        """A certificate that this one signed, as if it were an authority."""
        key = ec_key()
        der = issue_certificate(Authority(self.key, self.certificate), key, **TIMES)
        file = folder / f"{self.file.stem}-issued.pem"
        file.write_text(pem(der, self.der) + key_pem(key))
        return file


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    found = certificate_authority(**TIMES)
    (tmp_path / "ca.pem").write_text(pem(found.der))
    return found


@pytest.fixture
def listener(tmp_path: Path, authority: Authority) -> Listener:
    serve(tmp_path, authority, "first.example")
    return Listener(
        name="mtls",
        address="127.0.0.1",
        port=1,
        origin="https://first.example",
        tls=TlsFiles(tmp_path / "server.pem", tmp_path / "server.key"),
        client_certificates=True,
    )


def serve(folder: Path, authority: Authority, name: str) -> None:
    """A certificate of the server, at the place that the listener reads."""
    key = ec_key()
    der = issue_certificate(authority, key, names=[x509.DNSName(name)], usages=(), **TIMES)
    (folder / "server.pem").write_text(pem(der))
    (folder / "server.key").write_text(key_pem(key))


def shaken(server: ssl.SSLContext, folder: Path, file: Path | None, name: str | None = None) -> bytes | None:
    """The client certificate that the server saw. Raises ssl.SSLError when it refused the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = name is not None
    context.load_verify_locations(folder / "ca.pem")
    if file is not None:
        context.load_cert_chain(file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        context.wrap_bio(to_client, to_server, server_hostname=name),
    )
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0].getpeercert(binary_form=True)


def running(listener: Listener, clients: Sequence[Client] = ()) -> tls.ListenerTls:
    context = tls.server_context(listener, clients)
    assert context is not None
    return tls.ListenerTls(listener, context, clients)


@pytest.mark.parametrize("name", [None, "first.example"])
def test_a_registered_certificate_is_let_through_without_a_restart(
    tmp_path: Path, listener: Listener, name: str | None
) -> None:
    one, other = Peer(tmp_path, "one"), Peer(tmp_path, "other")
    at_work = running(listener)
    with pytest.raises(ssl.SSLError):
        shaken(at_work.context, tmp_path, one.file, name)
    assert at_work.trust([one.client()])
    assert shaken(at_work.context, tmp_path, one.file, name) == one.der
    assert shaken(at_work.context, tmp_path, None, name) is None
    with pytest.raises(ssl.SSLError):
        shaken(at_work.context, tmp_path, other.file, name)


def test_a_certificate_is_let_through_no_longer_than_it_is_registered(
    tmp_path: Path, listener: Listener
) -> None:
    one, other = Peer(tmp_path, "one"), Peer(tmp_path, "other")
    at_work = running(listener, [one.client()])
    assert shaken(at_work.context, tmp_path, one.file) == one.der
    assert not at_work.trust([one.client()])
    assert at_work.trust([other.client()])
    with pytest.raises(ssl.SSLError):
        shaken(at_work.context, tmp_path, one.file)
    assert shaken(at_work.context, tmp_path, other.file) == other.der


def test_SEC29_a_registered_certificate_lets_nobody_else_through(tmp_path: Path, listener: Listener) -> None:
    one, authority = Peer(tmp_path, "one"), Peer(tmp_path, "authority", ca=True)
    at_work = running(listener, [one.client()])
    with pytest.raises(ssl.SSLError):
        shaken(at_work.context, tmp_path, one.issue(tmp_path))
    # Why a CA:TRUE certificate is refused at registration: OpenSSL would take whatever it signs.
    assert at_work.trust([authority.client()])
    assert shaken(at_work.context, tmp_path, authority.issue(tmp_path)) is not None


def test_a_new_certificate_of_the_server_is_served_before_and_after_a_change_of_clients(
    tmp_path: Path, listener: Listener, authority: Authority
) -> None:
    one = Peer(tmp_path, "one")
    at_work = running(listener)
    serve(tmp_path, authority, "second.example")
    at_work.reload()
    shaken(at_work.context, tmp_path, None, "second.example")
    at_work.trust([one.client()])
    serve(tmp_path, authority, "third.example")
    at_work.reload()
    assert shaken(at_work.context, tmp_path, one.file, "third.example") == one.der
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(at_work.context, tmp_path, None, "second.example")


def test_one_certificate_that_cannot_be_loaded_stops_nobody_else(tmp_path: Path, listener: Listener) -> None:
    one, other = Peer(tmp_path, "one"), Peer(tmp_path, "other")
    twice = other.client()  # the same certificate again is an error to some versions of OpenSSL
    at_work = running(listener, [twice, twice, one.client()])
    assert shaken(at_work.context, tmp_path, one.file) == one.der


def test_a_client_certificate_with_the_name_of_an_authority_is_no_anchor(
    tmp_path: Path, listener: Listener
) -> None:
    listener = replace(listener, client_certificate_anchors=tmp_path / "ca.pem")
    namesake, other = Peer(tmp_path, "Test CA"), Peer(tmp_path, "other")
    with_both = tls.server_context(listener, [namesake.client(), other.client()])
    with_one = tls.server_context(listener, [other.client()])
    assert with_both is not None
    assert with_one is not None
    assert with_both.cert_store_stats()["x509"] == with_one.cert_store_stats()["x509"] == 2


def connected(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[asyncio.Transport, ssl.SSLSession | None]:
    """The server's end of a connection that takes up a session, and the session that the client has then."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    calling = client.wrap_bio(to_client, to_server, server_hostname="first.example", session=session)
    for _ in range(6):
        for end in (calling, serving):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    serving.write(b"x")
    assert calling.read(1) == b"x"  # with it come the tickets of TLS 1.3
    return asyncio.Transport({"ssl_object": serving, "peername": ("192.0.2.1", 4711)}), calling.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_comes_back_is_seen_with_its_whole_chain_again(
    tmp_path: Path, listener: Listener, authority: Authority, version: ssl.TLSVersion
) -> None:
    middle, key = certificate_authority("Middle CA", parent=authority, **TIMES), ec_key()
    leaf = issue_certificate(middle, key, **TIMES)
    (tmp_path / "client.pem").write_text(pem(leaf, middle.der) + key_pem(key))
    at_work = running(replace(listener, client_certificate_anchors=tmp_path / "ca.pem"))
    calling = client_context(str(tmp_path / "ca.pem"))
    calling.load_cert_chain(tmp_path / "client.pem")
    calling.maximum_version = version
    session = None
    for _ in range(2):
        transport, session = connected(at_work.context, calling, session)
        peer = peer_of(transport)
        assert (peer.certificate, peer.chain) == (leaf, (middle.der,))
