"""The documents that let a client find everything: RFC 8414, OpenID Discovery, SMART, RFC 9728, and the JWKS.

All come from one source, the settings and the table of what exists, so that no two of them can disagree.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from authz.endpoints.grants import GRANTS
from authz.endpoints.published import BRANDS_PATH, CORS, brand_bundle_door, tagged
from authz.http import json_answer
from authz.login.language import LANGUAGES
from authz.protocol.authorization import PROMPTS, RESPONSE_MODES
from authz.protocol.client_profiles import CAPABILITIES, FAPI_ALGORITHMS, PROFILES
from authz.protocol.clients import AuthenticationMethod, ProfileName, SubjectType
from authz.protocol.openid import PERSONAL_CLAIMS, PROTOCOL_CLAIMS, SIGN_INS
from authz.protocol.request import Answer, HttpRequest
from authz.settings import AuthorizationSettings, Protected

_OWN_GRANTS = "/account/grants"
_ENDPOINTS = {
    "authorization_endpoint": "/authorize",
    "token_endpoint": "/token",
    "pushed_authorization_request_endpoint": "/par",
    "revocation_endpoint": "/revoke",
    "introspection_endpoint": "/introspect",
    "userinfo_endpoint": "/userinfo",
    "end_session_endpoint": "/logout",
    "jwks_uri": "/jwks",
}
_ALIASED = (
    "token_endpoint",
    "pushed_authorization_request_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "userinfo_endpoint",
)
_CERTIFICATES = {AuthenticationMethod.TLS_CLIENT_AUTH, AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH}
_OF_LAUNCHES = (
    "launch-ehr",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-banner",
    "context-style",
)
_MAX_JWKS_SECONDS = 300  # a key that was removed must be gone from caches soon
_SHORT_CACHE: tuple[tuple[str, str], ...] = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "max-age=300"),
)


class PublishedKeys(Protocol):
    """Whose public keys are published: authz.keys.KeyRing, or nobody's where only metadata are asked for."""

    @property
    def algorithms(self) -> Sequence[str]:
        """The algorithms that can be signed with, the default first."""

    @property
    def id_token_algorithms(self) -> Sequence[str]:
        """Those that ID tokens can be signed with."""

    def jwks(self) -> Mapping[str, object]:
        """The JWK Set."""


class Discovery:
    """GET on every well-known address."""

    def __init__(
        self,
        settings: AuthorizationSettings,
        keys: PublishedKeys,
        *,
        ungranted: frozenset[str] = frozenset(),
        launches: bool = False,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._launches = launches
        self._scopes = [text for text in settings.scopes_supported if text not in ungranted]

    def server_metadata(self) -> dict[str, object]:
        """RFC 8414 2, with the members of RFC 9126, 9207, 9449, 8705, 9728 and OpenID Discovery (M1 to M5)."""
        settings = self._settings
        profiles = [PROFILES[name] for name in settings.profiles if name in PROFILES]
        algorithms = sorted({name for profile in profiles for name in profile.signing_algorithms})
        methods = sorted(
            method
            for method in {method for profile in profiles for method in profile.authentication_methods}
            if settings.mtls_origin is not None or method not in _CERTIFICATES
        )
        authenticating = [method for method in methods if method is not AuthenticationMethod.NONE]
        signing = list(self._keys.algorithms)
        document: dict[str, object] = {
            "issuer": settings.issuer,
            **{name: settings.issuer + path for name, path in _ENDPOINTS.items()},
            "scopes_supported": self._scopes,
            "ui_locales_supported": list(LANGUAGES),
            "response_types_supported": ["code"],
            "response_modes_supported": list(RESPONSE_MODES),
            "grant_types_supported": list(GRANTS),
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "revocation_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
            # RFC 8414 2: access token types stand beside the methods; a caller may show a token of its own.
            "introspection_endpoint_auth_methods_supported": [*authenticating, "Bearer", "DPoP"],
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
            "introspection_signing_alg_values_supported": signing,
            "authorization_signing_alg_values_supported": signing,
            "subject_types_supported": [kind.value for kind in SubjectType],
            "id_token_signing_alg_values_supported": list(self._keys.id_token_algorithms),
            "userinfo_signing_alg_values_supported": signing,
            "claims_parameter_supported": True,
            "claims_supported": [*PROTOCOL_CLAIMS, *PERSONAL_CLAIMS],
            "acr_values_supported": list(SIGN_INS),
            "prompt_values_supported": list(PROMPTS),
            "request_parameter_supported": True,
            "request_uri_parameter_supported": False,
            "request_object_signing_alg_values_supported": sorted(FAPI_ALGORITHMS),
            "code_challenge_methods_supported": ["S256"],
            "require_pushed_authorization_requests": settings.profiles == {ProfileName.FAPI2},
            "authorization_response_iss_parameter_supported": True,
            "dpop_signing_alg_values_supported": sorted(FAPI_ALGORITHMS),
            "tls_client_certificate_bound_access_tokens": settings.mtls_origin is not None,
            "protected_resources": [resource.identifier for resource in settings.resources],
        }
        if settings.registration.enabled:
            document["registration_endpoint"] = settings.issuer + "/register"
        if settings.detail_types:
            document["authorization_details_types_supported"] = self._detail_types()
        if settings.mtls_origin is not None:
            document["mtls_endpoint_aliases"] = {
                name: settings.mtls_origin + _ENDPOINTS[name] for name in _ALIASED
            }
        if settings.privacy_url is not None:
            document["op_policy_uri"] = settings.privacy_url
        return document

    def smart_configuration(self) -> dict[str, object]:
        """SMART App Launch 2.2 discovery; capabilities are those that exist.

        No client-… is among them while only fapi2 is on: SMART clients name the token endpoint as the audience of
        their assertions, which FAPI 2.0 5.3.2.1 refuses, and push no requests.
        """
        metadata = self.server_metadata()
        wanted = (
            "issuer", "jwks_uri", "authorization_endpoint", "token_endpoint", "revocation_endpoint",
            "introspection_endpoint", "registration_endpoint",
            "pushed_authorization_request_endpoint", "grant_types_supported", "scopes_supported",
            "response_types_supported", "code_challenge_methods_supported", "token_endpoint_auth_methods_supported",
            "token_endpoint_auth_signing_alg_values_supported", "dpop_signing_alg_values_supported",
            "require_pushed_authorization_requests", "mtls_endpoint_aliases",
        )  # fmt: skip
        document = {name: metadata[name] for name in wanted if name in metadata}
        if not self._signs_for_smart():
            del document["issuer"]  # SMART 2.2 @381: it says that people can be signed in by OpenID Connect
        document["management_endpoint"] = self._settings.issuer + _OWN_GRANTS
        on = [name for name in ProfileName if name in self._settings.profiles]
        document |= self._brands()
        plain = any(not PROFILES[name].pushed_requests_required for name in on)
        document["capabilities"] = [
            *(CAPABILITIES[name] for name in on if name in CAPABILITIES),
            *(["authorize-post"] if plain else []),
            *(["sso-openid-connect"] if self._signs_for_smart() else []),
            *(_OF_LAUNCHES if self._launches else ()),
            "launch-standalone",
            "context-standalone-patient",
            *(["context-standalone-encounter"] if self._picks() else []),
            "permission-offline",
            "permission-online",
            "permission-patient",
            "permission-user",
            "permission-v1",
            "permission-v2",
        ]
        return document

    def _brands(self) -> dict[str, object]:
        """Where apps find what to show of the hospital, and which of it comes first (SMART 2.2 @406 to @412)."""
        brands = self._settings.brands
        if brands is None:
            return {}
        primary = {} if brands.primary is None else {"user_access_brand_identifier": brands.primary.as_fhir()}
        return {"user_access_brand_bundle": brands.url, **primary}

    def _picks(self) -> bool:
        """Whether a visit can be chosen at the pages."""
        return any(resource.picker for resource in self._settings.resources)

    def _signs_for_smart(self) -> bool:
        """Whether ID tokens are signed as SMART App Launch 2.2 wants, with RS256, for clients that can have them."""
        found = set(self._keys.id_token_algorithms)
        return any(found & PROFILES[name].id_token_algorithms for name in self._settings.profiles)

    def resource_metadata(self, resource: Protected, *, mtls: bool) -> dict[str, object]:
        """RFC 9728 2 for one mount."""
        identifier = resource.aliases[0] if mtls and resource.aliases else resource.identifier
        signing: dict[str, object] = {
            "jwks_uri": self._settings.issuer + "/jwks",
            "resource_signing_alg_values_supported": [self._keys.algorithms[0]],
        }
        document: dict[str, object] = {
            "resource": identifier,
            "authorization_servers": [self._settings.issuer],
            "scopes_supported": self._scopes,
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": sorted(FAPI_ALGORITHMS),
            "tls_client_certificate_bound_access_tokens": self._settings.mtls_origin is not None,
            "resource_name": self._settings.organisation,
            **(signing if resource.signs else {}),
        }
        if self._settings.detail_types:
            document["authorization_details_types_supported"] = self._detail_types()
        return document

    def _detail_types(self) -> list[str]:
        return sorted(kind.name for kind in self._settings.detail_types)

    def routes(self) -> Mapping[str, Callable[[HttpRequest], Answer]]:
        """path → what GET answers."""
        found: dict[str, Callable[[HttpRequest], Answer]] = {
            "/.well-known/oauth-authorization-server": lambda request: _public(self.server_metadata()),
            "/.well-known/openid-configuration": lambda request: _public(self.server_metadata()),
            "/.well-known/smart-configuration": lambda request: _public(self.smart_configuration()),
            "/jwks": self._jwks,
        }
        brands = self._settings.brands
        if brands is not None and brands.bundle is not None:
            found[BRANDS_PATH] = brand_bundle_door(brands.bundle)
        for resource in self._settings.resources:
            document = self._resource_door(resource)
            if resource.kind.startswith("fhir"):
                found[resource.path + "/.well-known/smart-configuration"] = found[
                    "/.well-known/smart-configuration"
                ]
            found["/.well-known/oauth-protected-resource" + resource.path] = document
            found.setdefault("/.well-known/oauth-protected-resource", document)
        return found

    def _jwks(self, request: HttpRequest) -> Answer:
        """The JWK Set, to be kept no longer than half of the time that a new key is announced (RFC 9111 5.2.2.1).

        Whoever asks again with the entity tag that it has gets 304 while no key came or went (RFC 9110 13.1.2).
        """
        body = json.dumps(dict(self._keys.jwks()), separators=(",", ":")).encode("ascii")
        seconds = min(_MAX_JWKS_SECONDS, self._settings.key_announced_seconds // 2)
        return tagged(request, body, media_type="application/json", seconds=seconds)

    def _resource_door(self, resource: Protected) -> Callable[[HttpRequest], Answer]:
        def door(request: HttpRequest) -> Answer:
            return _public(
                self.resource_metadata(resource, mtls=request.origin == self._settings.mtls_origin)
            )

        return door


def _public(value: dict[str, object]) -> Answer:
    answer = json_answer(200, value)
    return Answer(answer.status, (*_SHORT_CACHE, *CORS), answer.body)
