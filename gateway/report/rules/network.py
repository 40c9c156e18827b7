"""Checks of the network side: TLS of the listeners, certificates, addresses, the way to the stores."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from gateway.report.rules.facts import CertificateFacts, Facts, KeyFacts, ListenerFacts
from gateway.report.rules.table import Finding, failed, not_applicable, passed, warned

_OLD_VERSIONS = frozenset({"SSLv3", "TLSv1", "TLSv1_1"})
# BCP 195 (RFC 9325 4.2), with ChaCha20-Poly1305, which it allows beside AES-GCM.
_CIPHERS = frozenset(
    {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    }
)
_WEAK_HASHES = frozenset({"md5", "sha1"})
_MIN_RSA_BITS, _MIN_EC_BITS = 2048, 224
_SOON_SECONDS = 30 * 86400


def listed(items: Iterable[str]) -> str:
    """The items in words."""
    return ", ".join(items) or "none"


def is_short(key: KeyFacts) -> bool:
    """Whether a key is shorter than FAPI 2.0 5.4.1 asks, or of no kind that it knows."""
    if key.kind == "RSA":
        return key.bits < _MIN_RSA_BITS
    return key.kind not in ("EC", "OKP") or key.bits < _MIN_EC_BITS


def everything_is_https(facts: Facts) -> Finding:
    """Public addresses are https and end in TLS, here or at a listed proxy."""
    plain = [url for url in (facts.settings.issuer, facts.settings.mtls_origin) if url and not _is_https(url)]
    if plain:
        return failed(f"{listed(plain)} is not https", "public_url, mtls_url")
    for listener in facts.listeners:
        if not listener.tls and not listener.proxies:
            return failed(f"the listener {listener.name} is plain HTTP", f"listen.{listener.name}.tls")
    ended = [f"{found.name} {'here' if found.tls else 'at a proxy'}" for found in facts.listeners]
    return passed(f"the issuer is https; TLS ends: {listed(ended)}")


def stores_are_reached_safely(facts: Facts) -> Finding:
    """The way to the stores is TLS, or stays on this machine."""
    plain = [u.name for u in facts.upstreams if not _is_https(u.base) and not u.loopback]
    if plain:
        return warned(
            f"{listed(plain)} is reached by plain http over a network: records pass in the clear",
            f"upstreams.{plain[0]}.base",
        )
    return passed("every store is reached by https or on this machine")


def tls_is_new_enough(facts: Facts) -> Finding:
    """TLS 1.2 or later, read from the contexts that the listeners use."""
    own = _own(facts)
    for listener in own:
        if listener.problem:
            return failed(f"{listener.name}: {listener.problem}", f"listen.{listener.name}.tls")
        old = [version for version in listener.versions if version in _OLD_VERSIONS]
        if old:
            return failed(f"{listener.name} speaks {listed(old)}", f"listen.{listener.name}.tls")
    if not own:
        return _ends_elsewhere(facts)
    return passed("; ".join(f"{found.name}: {listed(found.versions)}" for found in own))


def ciphers_are_recommended(facts: Facts) -> Finding:
    """With TLS 1.2 only ECDHE with AES-GCM or ChaCha20-Poly1305, read from the contexts."""
    own = _own(facts)
    for listener in own:
        weak = [name for name in listener.ciphers if name not in _CIPHERS]
        if weak:
            return failed(f"{listener.name} offers {listed(weak)}", f"listen.{listener.name}.tls")
    if not own:
        return _ends_elsewhere(facts)
    return passed(
        f"{len({name for found in own for name in found.ciphers})} cipher suites of BCP 195 with TLS 1.2"
    )


def certificates_are_strong(facts: Facts) -> Finding:
    """Keys of certificates are long enough and no signature uses a broken hash."""
    found = _certificates(facts)
    for certificate in found:
        if is_short(certificate.key):
            said = f"{certificate.key.kind} key of {certificate.key.bits} bits"
            return failed(f"{certificate.place}: {said}, RSA needs 2048 and EC 224", certificate.place)
        if certificate.signature_hash in _WEAK_HASHES:
            return failed(
                f"{certificate.place} is signed with {certificate.signature_hash}", certificate.place
            )
    if not found:
        return _ends_elsewhere(facts)
    kinds = sorted({f"{c.key.kind} {c.key.bits}" for c in found})
    return passed(f"{len(found)} certificates: {listed(kinds)}")


def certificates_are_in_date(facts: Facts) -> Finding:
    """The listeners' certificates and the anchors for clients are valid now, and for a month more."""
    found = _certificates(facts)
    if not found:
        return _ends_elsewhere(facts)
    return in_date(found, facts.now)


def in_date(certificates: Iterable[CertificateFacts], now: int) -> Finding:
    """Whether certificates are valid at now, and a month later."""
    soonest = None
    for certificate in sorted(certificates, key=lambda c: c.not_after):
        if certificate.not_after <= now:
            days = (now - certificate.not_after) // 86400
            return failed(f"{certificate.place} expired {days} days ago", certificate.place)
        if certificate.not_before > now:
            return failed(f"{certificate.place} is not valid yet", certificate.place)
        soonest = soonest or certificate
    if soonest is None:
        return not_applicable("there is no certificate here")
    days = (soonest.not_after - now) // 86400
    if soonest.not_after - now < _SOON_SECONDS:
        return warned(f"{soonest.place} expires in {days} days", soonest.place)
    return passed(f"the first to expire is {soonest.place}, in {days} days")


def operations_are_private(facts: Facts) -> Finding:
    """Metrics, health and this report are answered on this machine only."""
    if is_loopback(facts.operations_address):
        return passed(f"operations listen on {facts.operations_address}")
    said = f"operations listen on {facts.operations_address}: who can reach it reads metrics and this report"
    return warned(said, "listen.operations.address")


def proxies_are_few(facts: Facts) -> Finding:
    """Only listed proxies speak for a client, and the list is no whole internet (RFC 9700 4.13)."""
    behind = [listener for listener in facts.listeners if listener.proxies]
    for listener in behind:
        if any(network.endswith("/0") for network in listener.proxies):
            return failed(
                f"{listener.name} believes everybody's forwarded headers and certificates",
                f"listen.{listener.name}.trusted_proxies.addresses",
            )
    if not behind:
        return not_applicable("no proxy is trusted; forwarded headers are ignored")
    return passed("; ".join(f"{found.name} believes {listed(found.proxies)}" for found in behind))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its text; a name other than localhost counts as another machine."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_https(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def _own(facts: Facts) -> list[ListenerFacts]:
    return [listener for listener in facts.listeners if listener.tls]


def _certificates(facts: Facts) -> list[CertificateFacts]:
    return [c for listener in facts.listeners for c in (*listener.certificates, *listener.anchors)]


def _ends_elsewhere(facts: Facts) -> Finding:
    return not_applicable(
        "TLS ends at a proxy: its versions, ciphers and certificates are to be checked there"
    )
