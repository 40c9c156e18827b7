"""Checks of one client: how it authenticates, what its tokens are bound to, where its answers go, what it may ask."""

from urllib.parse import urlsplit

from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import AuthenticationMethod, BindingKind, GrantType, ProfileName
from authz.protocol.scopes import parse_scope
from gateway.report.rules import network
from gateway.report.rules.facts import ClientFacts, Facts
from gateway.report.rules.network import is_short, listed
from gateway.report.rules.server_checks import FAPI_ALGORITHMS, FAPI_METHODS
from gateway.report.rules.table import Finding, failed, not_applicable, passed, warned

_LOOPBACK = frozenset({"127.0.0.1", "::1"})


def is_confidential(found: ClientFacts, facts: Facts) -> Finding:
    """The client has credentials."""
    method = found.client.authentication_method
    if method is AuthenticationMethod.NONE:
        return failed("the client is public: it proves by nothing who it is", "authentication")
    return passed(f"the client authenticates by {method}")


def authenticates_by_key(found: ClientFacts, facts: Facts) -> Finding:
    """private_key_jwt or mutual TLS: no shared secret."""
    method = found.client.authentication_method
    if str(method) not in FAPI_METHODS:
        return failed(f"{method}, expected private_key_jwt or mutual TLS", "authentication")
    return passed(str(method))


def prefers_keys_to_secrets(found: ClientFacts, facts: Facts) -> Finding:
    """RFC 9700 2.5: asymmetric credentials are better than secrets, secrets better than nothing."""
    method = found.client.authentication_method
    if method is AuthenticationMethod.NONE:
        return warned(
            "a public client: its tokens must be bound, and its redirect URI claimed", "authentication"
        )
    if str(method) not in FAPI_METHODS:
        return warned(
            f"{method} is a shared secret; a key of its own cannot leak from here", "authentication"
        )
    return passed(str(method))


def can_be_authenticated(found: ClientFacts, facts: Facts) -> Finding:
    """What is registered is enough for the client to authenticate at all."""
    client = found.client
    method = client.authentication_method
    if client.jwks_uri is not None:
        return passed("keys are fetched from the URL that is registered; what it holds is not looked at here")
    if method is AuthenticationMethod.PRIVATE_KEY_JWT:
        if not any(key.algorithms for key in found.keys):
            return failed("no registered key can verify an assertion of this client", "jwks")
        return passed(f"{len(found.keys)} registered keys")
    if method is AuthenticationMethod.TLS_CLIENT_AUTH:
        if client.certificate_subject is None:
            return failed("no certificate subject is registered", "certificate_subject")
        if not any(listener.anchors for listener in facts.listeners):
            return failed(
                "no authority is trusted for certificates of clients",
                "listen.mtls.client_certificate_anchors",
            )
        return passed(f"the certificate's {client.certificate_subject.kind}, by a trusted authority")
    if method is AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH:
        if not found.certificates and not found.keys:
            return failed("no certificate of the client is registered", "jwks")
        return passed(f"{max(len(found.certificates), len(found.keys))} registered certificates")
    return not_applicable(f"{method} needs nothing of this")


def keys_are_long_enough(found: ClientFacts, facts: Facts) -> Finding:
    """Registered keys are RSA of 2048 or EC of 224 bits at least."""
    short = [f"{key.kind} of {key.bits} bits" for key in found.keys if is_short(key)]
    if short:
        return failed(f"{listed(short)}: RSA needs 2048 bits, EC 224", "jwks")
    if not found.keys:
        return not_applicable("no key is registered")
    return passed(listed(f"{key.kind} of {key.bits} bits" for key in found.keys))


def keys_sign_as_allowed(found: ClientFacts, facts: Facts) -> Finding:
    """Every registered key can be used for PS256, ES256 or EdDSA."""
    if not found.keys:
        return not_applicable("no key is registered")
    idle = [
        key.kid or "without kid" for key in found.keys if not FAPI_ALGORITHMS.intersection(key.algorithms)
    ]
    if len(idle) == len(found.keys):
        return failed("no registered key is for PS256, ES256 or EdDSA", "jwks")
    if idle:
        return warned(f"keys that nothing is verified with: {listed(idle)}", "jwks")
    return passed(listed(sorted({name for key in found.keys for name in key.algorithms})))


def keys_are_told_apart(found: ClientFacts, facts: Facts) -> Finding:
    """Several keys have several kid."""
    if not found.keys:
        return not_applicable("no key is registered")
    kids = [key.kid for key in found.keys]
    named = [kid for kid in kids if kid is not None]
    if len(set(named)) != len(named):
        return failed("two registered keys have the same kid", "jwks")
    if len(kids) > 1 and len(named) != len(kids):
        return warned("several keys are registered, and some have no kid to be chosen by", "jwks")
    return passed(f"{len(kids)} keys")


def certificates_are_in_date(found: ClientFacts, facts: Facts) -> Finding:
    """Certificates that are registered for the client are valid, and for a month more."""
    return network.in_date(found.certificates, facts.now)


def is_of_fapi2(found: ClientFacts, facts: Facts) -> Finding:
    """The client is held to the FAPI 2.0 Security Profile, not to a weaker one."""
    profile = found.client.profile
    if profile is ProfileName.FAPI2:
        return passed("the profile is fapi2")
    allowed = PROFILES[profile]
    weaker = [
        *([] if allowed.pushed_requests_required else ["requests need not be pushed"]),
        *(["aud of an assertion may be the token endpoint"] if allowed.token_url_audience_allowed else []),
        *(["it has a shared secret"] if found.client.secret_digest is not None else []),
        *(
            ["it does not authenticate"]
            if AuthenticationMethod.NONE in allowed.authentication_methods
            else []
        ),
    ]
    return warned(f"the profile {profile} is weaker than fapi2: {listed(weaker)}", "profile")


def tokens_are_bound(found: ClientFacts, facts: Facts) -> Finding:
    """Its tokens are bound to a DPoP key or to a certificate that a listener sees."""
    client = found.client
    if client.binding is BindingKind.NONE:
        return warned("its tokens are unbound: whoever holds one can use it", "require_dpop")
    if client.binding is BindingKind.MTLS:
        if not any(listener.sees_client_certificates for listener in facts.listeners):
            return failed("its tokens are bound to a certificate that no listener sees", "listen.mtls")
        return passed("bound to its certificate (RFC 8705)")
    return passed("bound to its DPoP key (RFC 9449)")


def redirects_are_https(found: ClientFacts, facts: Facts) -> Finding:
    """Answers go to https, or to the loopback address of a native app (RFC 8252 7.3)."""
    uris = found.client.redirect_uris
    plain = [u for u in uris if urlsplit(u).scheme == "http" and urlsplit(u).hostname not in _LOOPBACK]
    if plain:
        return failed(
            f"{listed(plain)} is http: expected https, or http://127.0.0.1 for native apps", "redirect_uris"
        )
    own = sorted({urlsplit(u).scheme for u in uris} - {"http", "https"})
    if own:
        said = f"{listed(own)}: any app on the device may take this scheme; a claimed https address is better"
        return warned(said, "redirect_uris")
    if not uris:
        return not_applicable("the client has no redirect URI")
    return passed(f"{len(uris)} redirect URIs")


def redirects_are_whole(found: ClientFacts, facts: Facts) -> Finding:
    """Redirect URIs are absolute, without fragment and without pattern, and compared as text."""
    bad = [u for u in found.client.redirect_uris if "#" in u or "*" in u or not urlsplit(u).scheme]
    if bad:
        return failed(f"{listed(bad)} is not one whole address", "redirect_uris")
    needs = GrantType.AUTHORIZATION_CODE in found.client.grant_types
    if needs and not found.client.redirect_uris:
        return failed("the client asks for codes and has no address for them", "redirect_uris")
    return passed("whole addresses, compared character by character") if needs else _without_codes()


def loopback_ports_are_fixed(found: ClientFacts, facts: Facts) -> Finding:
    """RFC 8252 7.3 lets native apps choose the port; here the registered port counts."""
    loopback = [u for u in found.client.redirect_uris if urlsplit(u).hostname in _LOOPBACK]
    if loopback:
        return warned(
            f"{listed(loopback)}: the app must use this very port, any other is refused", "redirect_uris"
        )
    return not_applicable("no redirect URI is on the loopback address")


def privileges_are_small(found: ClientFacts, facts: Facts) -> Finding:
    """A client is registered for what it needs, not for everything."""
    scopes = [scope for scope in map(parse_scope, found.client.scope) if scope is not None]
    writes = [
        s.text for s in scopes if s.type == "*" and s.context != "patient" and set("cud") & set(s.letters)
    ]
    if writes:
        return warned(f"{listed(writes)} changes resources of every type: name the types", "scope")
    wide = [s.text for s in scopes if s.type == "*" and s.context == "system"]
    if wide:
        return warned(f"{listed(wide)} reads every type without a person: name the types", "scope")
    return passed(f"{len(found.client.scope)} scopes")


def people_learn_who_asks(found: ClientFacts, facts: Facts) -> Finding:
    """The consent page can name the app, whom to ask about it and what it does with the record."""
    client = found.client
    if GrantType.AUTHORIZATION_CODE not in client.grant_types:
        return _without_codes()
    if not client.name:
        return failed("the client has no name to be shown", "name")
    if client.contact is None and client.policy_url is None:
        return warned("the consent page names nobody to ask: give a contact or a policy_url", "contact")
    return passed(f"the consent page shows {client.name}")


def requests_are_signed(found: ClientFacts, facts: Facts) -> Finding:
    """A client that claims Message Signing signs its requests, with a key that is registered."""
    client = found.client
    if client.signed_requests_required:
        if not any(key.algorithms for key in found.keys):
            return failed("the client must sign its requests and no key of it is registered", "jwks")
        return passed("only signed request objects are taken")
    if GrantType.AUTHORIZATION_CODE not in client.grant_types:
        return _without_codes()
    if client.signed_responses_required:
        return warned(
            "answers are signed and requests are not: FAPI 2.0 Message Signing has both", "signed_requests"
        )
    return not_applicable("the client may sign its requests and need not (signed_requests: optional)")


def responses_are_signed(found: ClientFacts, facts: Facts) -> Finding:
    """A client that claims Message Signing gets signed answers only."""
    client = found.client
    if client.signed_responses_required:
        return passed("every answer is one signed response")
    if GrantType.AUTHORIZATION_CODE not in client.grant_types:
        return _without_codes()
    if client.signed_requests_required:
        return warned(
            "requests are signed and answers are not: FAPI 2.0 Message Signing has both", "signed_responses"
        )
    return not_applicable("the client may ask for signed answers and need not (signed_responses: optional)")


def only_resource_servers_ask_about_all(found: ClientFacts, facts: Facts) -> Finding:
    """Whoever may ask about every token is a resource server and no app of people."""
    client = found.client
    if not client.may_introspect:
        return passed("the client learns of its own tokens only")
    if GrantType.AUTHORIZATION_CODE in client.grant_types:
        return warned("an app that people sign in with may ask about every token", "introspection")
    return passed("a resource server: it may ask about every token")


def refresh_tokens_need_a_client(found: ClientFacts, facts: Facts) -> Finding:
    """Refresh tokens of public clients are bound to a key or rotated; others need the client's authentication."""
    client = found.client
    if GrantType.REFRESH_TOKEN not in client.grant_types:
        return not_applicable("the client has no refresh tokens")
    if client.authentication_method is not AuthenticationMethod.NONE:
        return passed("a refresh token is worth nothing without the client's authentication")
    if client.binding is BindingKind.DPOP or facts.settings.rotate_refresh_tokens:
        return passed("bound to the DPoP key or replaced at each use")
    if client.binding is BindingKind.NONE and PROFILES[client.profile].unbound_refresh_needs_rotation:
        return passed("it gets none that is neither bound nor replaced, since replacing is off")
    return failed(
        "a public client's refresh tokens are neither bound nor replaced",
        "authorization.rotate_refresh_tokens",
    )


def _without_codes() -> Finding:
    return not_applicable("the client has no tokens of people")
