"""TLS to others is judged the same by every Python, also by one whose own contexts are stricter and wider."""

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from authz.outgoing_tls import client_context
from tests.support.jose import Authority, certificate_authority, ec_key, issue_certificate, pem
from tests.unit.test_listener_tls import TIMES, key_pem


@pytest.fixture(autouse=True)
def _newer_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python 3.13 and later do in every context that they make."""
    made = ssl.create_default_context

    def newer(*args: Any, **options: Any) -> ssl.SSLContext:
        context = made(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    monkeypatch.setattr(ssl, "create_default_context", newer)


def meet(folder: Path, trusted: Authority, issuer: Authority, name: str = "store.example") -> None:
    """A handshake with store.example. Raises SSLCertVerificationError."""
    key = ec_key()
    leaf = issue_certificate(issuer, key, names=[x509.DNSName("store.example")], usages=(), **TIMES)
    (folder / "server.pem").write_text(pem(leaf, issuer.der) + key_pem(key))
    (folder / "trusted.pem").write_text(pem(trusted.der))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    calling = client_context(str(folder / "trusted.pem")).wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(6):
        for end in (calling, serving):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert calling.getpeercert(binary_form=True) == leaf


def test_a_certificate_that_does_not_name_the_key_of_its_authority_is_believed(tmp_path: Path) -> None:
    """RFC 5280 4.2.1.1 asks for it; authorities of hospitals leave it out, and Python 3.11 never minded."""
    root = certificate_authority(**TIMES)
    meet(tmp_path, root, root)


def test_an_intermediate_authority_is_no_root(tmp_path: Path) -> None:
    root = certificate_authority(**TIMES)
    middle = certificate_authority("Middle CA", parent=root, **TIMES)
    meet(tmp_path, root, middle)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get issuer certificate"):
        meet(tmp_path, middle, middle)


def test_another_authority_and_another_name_are_refused(tmp_path: Path) -> None:
    root = certificate_authority(**TIMES)
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate in certificate chain"):
        meet(tmp_path, certificate_authority("Another CA", **TIMES), root)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        meet(tmp_path, root, root, name="other.example")
