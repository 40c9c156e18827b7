"""Checks of the authorization server: its metadata as they are published, its settings, its keys."""

from collections.abc import Callable

from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import ProfileName
from gateway.report.rules.facts import Facts
from gateway.report.rules.network import is_short, listed
from gateway.report.rules.table import Finding, ServerCheck, failed, not_applicable, passed, warned

FAPI_METHODS = frozenset({"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"})
FAPI_ALGORITHMS = frozenset({"PS256", "ES256", "EdDSA", "Ed25519"})
_PROFILES_KEY = "authorization.profiles"
# OWASP's minimum for argon2id: memory in KiB by passes.
_ARGON2_MEMORY_KIB = {1: 47104, 2: 19456, 3: 12288, 4: 9216}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def says(member: str, expected: object, setting: str = "") -> ServerCheck:
    """The metadata document holds this member with exactly this value."""

    def check(facts: Facts) -> Finding:
        found = facts.metadata.get(member)
        if found != expected:
            return failed(f"{member} is {_shown(found)}, expected {_shown(expected)}", setting)
        return passed(f"{member} is {_shown(found)}")

    return check


def names(*members: str, setting: str = "") -> ServerCheck:
    """The metadata document holds these members, each a URL of the issuer."""

    def check(facts: Facts) -> Finding:
        for member in members:
            found = facts.metadata.get(member)
            if not isinstance(found, str) or not found.startswith(facts.settings.issuer + "/"):
                return failed(f"{member} is {_shown(found)}, expected a URL of the issuer", setting)
        return passed(f"{listed(members)} at the issuer")

    return check


def offers_only(member: str, allowed: frozenset[str], setting: str = _PROFILES_KEY) -> ServerCheck:
    """The list in this member of the metadata holds something, and nothing outside of allowed."""

    def check(facts: Facts) -> Finding:
        found = _texts(facts, member)
        foreign = sorted(found - allowed)
        on = [
            PROFILES[name]
            for name in facts.settings.profiles
            if name in PROFILES and name != ProfileName.FAPI2
        ]
        others = {str(method) for profile in on for method in profile.authentication_methods}
        if foreign and set(foreign) <= others:
            return warned(f"{member} holds {listed(foreign)}, for clients of other profiles", setting)
        if foreign or not found:
            return failed(f"{member} holds {listed(foreign or sorted(found))}", setting)
        return passed(f"{member}: {listed(sorted(found))}")

    return check


def offers(member: str, wanted: str, setting: str = "") -> ServerCheck:
    """The list in this member of the metadata holds wanted."""

    def check(facts: Facts) -> Finding:
        found = _texts(facts, member)
        if wanted not in found:
            return failed(f"{member} holds {listed(sorted(found))}, without {wanted}", setting)
        return passed(f"{member} holds {wanted}")

    return check


def has_no_grant(grant: str) -> ServerCheck:
    """A grant that must not exist is neither announced nor in the table of grants."""

    def check(facts: Facts) -> Finding:
        if grant in facts.grants or grant in _texts(facts, "grant_types_supported"):
            return failed(f"the grant {grant} exists", "")
        return passed(f"the grants are {listed(sorted(facts.grants))}")

    return check


def lives_at_most(lifetime: str, *, fail_above: int, warn_above: int | None = None) -> ServerCheck:
    """A lifetime is at most so many seconds; above warn_above it is worth a look."""

    def check(facts: Facts) -> Finding:
        seconds: int = getattr(facts.settings.lifetimes, lifetime)
        setting = f"authorization.lifetimes.{lifetime}"
        if seconds > fail_above:
            return failed(f"{lifetime} is {seconds} s, at most {fail_above} s is allowed", setting)
        if warn_above is not None and seconds > warn_above:
            return warned(f"{lifetime} is {seconds} s; {warn_above} s or less is better", setting)
        return passed(f"{lifetime} is {seconds} s")

    return check


def every_profile(claim: Callable[[ProfileName], bool], said: str) -> ServerCheck:
    """A claim holds for every profile that is switched on."""

    def check(facts: Facts) -> Finding:
        outside = sorted(name for name in facts.settings.profiles if name not in PROFILES or not claim(name))
        if ProfileName.FAPI2 in outside:
            return failed(f"the profile fapi2 does not hold: {said}", _PROFILES_KEY)
        if outside:
            return warned(f"clients of {listed(outside)} are outside of this: {said}", _PROFILES_KEY)
        return passed(said)

    return check


pushes_only = every_profile(lambda name: PROFILES[name].pushed_requests_required, "requests are pushed")
constrains_tokens = every_profile(
    lambda name: PROFILES[name].sender_constrained_required, "every access token is bound to a key"
)
wants_the_issuer_as_audience = every_profile(
    lambda name: not PROFILES[name].token_url_audience_allowed,
    "the audience of assertions is the issuer and nothing else",
)


def announces_pushed_requests(facts: Facts) -> Finding:
    """require_pushed_authorization_requests is true while fapi2 is the only profile (M3)."""
    alone = facts.settings.profiles == {ProfileName.FAPI2}
    found = facts.metadata.get("require_pushed_authorization_requests")
    if found is not alone:
        return failed(
            f"require_pushed_authorization_requests is {_shown(found)}, expected {_shown(alone)}",
            _PROFILES_KEY,
        )
    if not alone:
        said = (
            "require_pushed_authorization_requests is false while another profile is on: it holds by client"
        )
        return warned(said, _PROFILES_KEY)
    return passed("require_pushed_authorization_requests is true")


def keeps_refresh_tokens(facts: Facts) -> Finding:
    """FAPI 2.0: no rotation for confidential clients but for extraordinary reasons."""
    setting = "authorization.rotate_refresh_tokens"
    if not facts.settings.rotate_refresh_tokens:
        return passed("refresh tokens are not rotated")
    grace = facts.settings.lifetimes.refresh_grace
    if grace < 30:
        return failed(
            f"rotation with {grace} s of grace loses grants of clients that must try again", setting
        )
    return warned(
        f"refresh tokens are rotated, with {grace} s of grace: give the reason to your certifier", setting
    )


def asks_for_nonces(facts: Facts) -> Finding:
    """A nonce of the server's own decides the freshness of DPoP proofs."""
    if facts.settings.dpop_nonce_required:
        return passed(f"a nonce is required, good for {facts.settings.lifetimes.dpop_nonce} s")
    age = facts.settings.lifetimes.dpop_proof
    return warned(
        f"nonces are offered only: proofs count by the client's clock for {age} s", "authorization.dpop_nonce"
    )


def binds_tokens(facts: Facts) -> Finding:
    """DPoP or mutual TLS is announced."""
    ways = ["DPoP"] if _texts(facts, "dpop_signing_alg_values_supported") else []
    if facts.metadata.get("tls_client_certificate_bound_access_tokens") is True:
        ways.append("mutual TLS")
    return (
        passed(f"tokens are bound by {listed(ways)}")
        if ways
        else failed("no way to bind tokens is announced", "")
    )


def aliases_belong_to_the_mtls_origin(facts: Facts) -> Finding:
    """mtls_endpoint_aliases are at mtls_url and never hold the authorization endpoint (RFC 8705 5)."""
    origin, aliases = facts.settings.mtls_origin, facts.metadata.get("mtls_endpoint_aliases")
    if origin is None:
        return not_applicable("there is no mutual-TLS listener")
    if not isinstance(aliases, dict) or "token_endpoint" not in aliases:
        return failed("mtls_endpoint_aliases has no token_endpoint", "mtls_url")
    if "authorization_endpoint" in aliases:
        return failed("mtls_endpoint_aliases holds the authorization endpoint", "mtls_url")
    foreign = sorted(name for name, url in aliases.items() if not str(url).startswith(origin + "/"))
    if foreign:
        return failed(f"{listed(foreign)} is not at {origin}", "mtls_url")
    return passed(f"{len(aliases)} aliases at {origin}")


def signs_with_allowed_algorithms(facts: Facts) -> Finding:
    """Our own signatures, and those that the metadata ask of clients, are PS256, ES256 or EdDSA."""
    own = facts.settings.signing_algorithms
    strange = sorted(set(own) - FAPI_ALGORITHMS)
    if strange:
        said = f"of our own algorithms {listed(strange)} is not PS256, ES256 or EdDSA"
        return failed(said, "keys.algorithms")
    for member in sorted(facts.metadata):
        if member.endswith("_alg_values_supported"):
            foreign = sorted(_texts(facts, member) - FAPI_ALGORITHMS)
            others = {
                name
                for p in facts.settings.profiles
                for name in PROFILES[p].signing_algorithms | PROFILES[p].id_token_algorithms
            }
            if foreign and set(foreign) <= others:
                return warned(
                    f"{member} holds {listed(foreign)}, for clients of other profiles", _PROFILES_KEY
                )
            if foreign:
                return failed(f"{member} holds {listed(foreign)}", _PROFILES_KEY)
    return passed(f"we sign with {listed(own)}; clients are asked for PS256, ES256 or EdDSA")


def never_offers_none(facts: Facts) -> Finding:
    """The algorithm none is in no list of the metadata."""
    found = sorted(name for name in facts.metadata if name.endswith("_alg_values_supported") and
                   "none" in _texts(facts, name))  # fmt: skip
    return failed(f"{listed(found)} holds none", "") if found else passed("none is in no list of algorithms")


def own_keys_are_long_enough(facts: Facts) -> Finding:
    """Published keys are RSA of 2048 or EC of 224 bits at least, and hold nothing private."""
    if facts.jwks is None:
        return not_applicable("the server's keys are known to the running server: ask GET /report")
    private = sorted(facts.jwks_members & _PRIVATE_MEMBERS)
    if private:
        return failed(f"the published keys hold {listed(private)}", "keys")
    short = [key for key in facts.jwks if is_short(key)]
    if short or not facts.jwks:
        return failed(f"{len(short)} of {len(facts.jwks)} published keys are too short", "keys.algorithm")
    return passed(listed(f"{key.kind} of {key.bits} bits" for key in facts.jwks))


def own_keys_are_told_apart(facts: Facts) -> Finding:
    """Every published key has a kid of its own and says that it is for signatures."""
    if facts.jwks is None:
        return not_applicable("the server's keys are known to the running server: ask GET /report")
    kids = [key.kid for key in facts.jwks]
    if None in kids or len(set(kids)) != len(kids):
        return failed("published keys share a kid or have none", "keys")
    if any(key.use != "sig" for key in facts.jwks):
        return failed("a published key does not say use sig", "keys")
    return passed(f"{len(kids)} keys, each with kid and use")


def passwords_are_expensive(facts: Facts) -> Finding:
    """Hashes of passwords cost at least what OWASP asks of argon2id."""
    weak = [p for p in facts.passwords if p.memory_kib < _ARGON2_MEMORY_KIB.get(min(p.passes, 4), 1 << 62)]
    unreadable = [p.place for p in weak if not p.memory_kib]
    if unreadable:
        return failed(f"{listed(unreadable)} is no argon2id hash that opens anything", unreadable[0])
    if weak:
        said = f"m={weak[0].memory_kib} KiB, t={weak[0].passes}"
        return warned(
            f"{len(weak)} hashes are cheap to guess, the first by {said}: securus user hash", weak[0].place
        )
    if not facts.passwords:
        return not_applicable("there are no local accounts")
    return passed(f"{len(facts.passwords)} argon2id hashes")


def guessing_is_slow(facts: Facts) -> Finding:
    """Attempts to sign in are few a minute."""
    attempts = facts.settings.sign_in_attempts_per_minute
    if attempts > 60:
        return failed(f"{attempts} attempts a minute let a guesser work", "authorization.sign_in_attempts")
    if attempts > 20:
        return warned(f"{attempts} attempts a minute are many", "authorization.sign_in_attempts")
    return passed(f"{attempts} attempts a minute for a name from an address")


def single_use_survives_a_power_cut(facts: Facts) -> Finding:
    """What was spent stays spent: without synchronous=full a power cut may give back the last moment's claims."""
    if facts.synchronous == "full":
        return passed("storage.synchronous is full")
    if facts.synchronous == "postgresql":
        return passed(
            "PostgreSQL commits before it answers; what a standby has of it is for the server to say"
        )
    if facts.settings.dpop_nonce_required:
        return passed(
            "storage.synchronous is normal; nonces make proofs of before a power cut too old soon after"
        )
    return warned(
        "storage.synchronous is normal and nonces are only offered: after a power cut a proof may count twice",
        "storage.synchronous",
    )


def names_of_clients_and_people_differ(facts: Facts) -> Finding:
    """No client_id is the subject of a person (RFC 9068 5, RFC 9700 4.15)."""
    both = sorted(facts.subjects & {found.client.client_id for found in facts.clients})
    if both:
        return failed(f"{len(both)} client_id are also subjects of people", "clients, users")
    return passed("no client_id is the subject of a person")


def tokens_name_their_resource(facts: Facts) -> Finding:
    """Every mount has an identifier of its own, which tokens carry as audience."""
    identifiers = [resource.identifier for resource in facts.settings.resources]
    if not identifiers or len(set(identifiers)) != len(identifiers):
        return failed("mounts have no identifiers of their own", "upstreams")
    return passed(f"audiences: {listed(identifiers)}")


def scopes_are_named(facts: Facts) -> Finding:
    """Clients learn which scopes exist, and none of them is everything of everything."""
    wide = sorted(text for text in _texts(facts, "scopes_supported") if text.startswith("system/*.") and
                  text.rpartition(".")[2] in ("*", "cruds"))  # fmt: skip
    if wide:
        return warned(f"{listed(wide)} opens every record for every change", "clients")
    return passed(f"{len(_texts(facts, 'scopes_supported'))} scopes are announced")


def registrations_are_approved(facts: Facts) -> Finding:
    """Somebody looks at an application before people are sent to it."""
    registration = facts.settings.registration
    if not registration.enabled:
        return not_applicable("no application registers itself")
    if registration.automatic:
        said = "what registers itself is in force at once: nobody has looked at where people are sent"
        return warned(said, "registration.approval")
    return passed("registrations wait for approval")


def _texts(facts: Facts, member: str) -> frozenset[str]:
    found = facts.metadata.get(member)
    return frozenset(map(str, found)) if isinstance(found, list | tuple) else frozenset()


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return listed(map(str, value)) if isinstance(value, list | tuple) else str(value)
