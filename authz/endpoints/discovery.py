"""The documents that let a client find everything: RFC 8414, OpenID Discovery, SMART, RFC 9728, and the JWKS.

All come from one source, the settings and the table of what exists, so that no two of them can disagree.
"""

from collections.abc import Callable, Mapping

from authz.http import json_answer
from authz.keys import KeyRing
from authz.protocol.clients import PROFILES, GrantType, ProfileName
from authz.protocol.request import Answer, HttpRequest
from authz.settings import AuthorizationSettings, Protected

_ENDPOINTS = {
    "authorization_endpoint": "/authorize",
    "token_endpoint": "/token",
    "pushed_authorization_request_endpoint": "/par",
    "revocation_endpoint": "/revoke",
    "jwks_uri": "/jwks",
}
_ALIASED = ("token_endpoint", "pushed_authorization_request_endpoint", "revocation_endpoint")
_CORS: tuple[tuple[str, str], ...] = (("Access-Control-Allow-Origin", "*"),)
_SHORT_CACHE: tuple[tuple[str, str], ...] = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "max-age=300"),
)


class Discovery:
    """GET on every well-known address."""

    def __init__(self, settings: AuthorizationSettings, keys: KeyRing) -> None:
        self._settings = settings
        self._keys = keys

    def server_metadata(self) -> dict[str, object]:
        """RFC 8414 2, with the members of RFC 9126, 9207, 9449, 8705 and OpenID Discovery (M1 to M5)."""
        settings = self._settings
        profiles = [PROFILES[name] for name in sorted(settings.profiles)]
        algorithms = sorted(set().union(*(profile.signing_algorithms for profile in profiles)))
        methods = sorted(
            str(m) for m in set().union(*(profile.authentication_methods for profile in profiles))
        )
        document: dict[str, object] = {
            "issuer": settings.issuer,
            **{name: settings.issuer + path for name, path in _ENDPOINTS.items()},
            "scopes_supported": list(settings.scopes_supported),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [str(grant) for grant in GrantType],
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "revocation_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
            "code_challenge_methods_supported": ["S256"],
            "require_pushed_authorization_requests": settings.profiles == {ProfileName.FAPI2},
            "authorization_response_iss_parameter_supported": True,
            "dpop_signing_alg_values_supported": algorithms,
            "tls_client_certificate_bound_access_tokens": True,
            "protected_resources": [resource.identifier for resource in settings.resources],
        }
        if settings.mtls_origin is not None:
            document["mtls_endpoint_aliases"] = {
                name: settings.mtls_origin + _ENDPOINTS[name] for name in _ALIASED
            }
        if settings.privacy_url is not None:
            document["op_policy_uri"] = settings.privacy_url
        return document

    def smart_configuration(self) -> dict[str, object]:
        """SMART App Launch 2.2 discovery; capabilities are those that exist."""
        metadata = self.server_metadata()
        wanted = (
            "issuer", "jwks_uri", "authorization_endpoint", "token_endpoint", "revocation_endpoint",
            "pushed_authorization_request_endpoint", "grant_types_supported", "scopes_supported",
            "response_types_supported", "code_challenge_methods_supported", "token_endpoint_auth_methods_supported",
            "token_endpoint_auth_signing_alg_values_supported", "dpop_signing_alg_values_supported",
            "require_pushed_authorization_requests", "mtls_endpoint_aliases",
        )  # fmt: skip
        document = {name: metadata[name] for name in wanted if name in metadata}
        document["capabilities"] = [
            "launch-standalone",
            "client-confidential-asymmetric",
            "context-standalone-patient",
            "permission-offline",
            "permission-patient",
            "permission-user",
            "permission-v1",
            "permission-v2",
        ]
        return document

    def resource_metadata(self, resource: Protected, *, mtls: bool) -> dict[str, object]:
        """RFC 9728 2 for one mount."""
        identifier = resource.aliases[0] if mtls and resource.aliases else resource.identifier
        return {
            "resource": identifier,
            "authorization_servers": [self._settings.issuer],
            "scopes_supported": list(self._settings.scopes_supported),
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": sorted(PROFILES[ProfileName.FAPI2].signing_algorithms),
            "tls_client_certificate_bound_access_tokens": True,
            "resource_name": self._settings.organisation,
        }

    def routes(self) -> Mapping[str, Callable[[HttpRequest], Answer]]:
        """path → what GET answers."""
        found: dict[str, Callable[[HttpRequest], Answer]] = {
            "/.well-known/oauth-authorization-server": lambda request: _public(self.server_metadata()),
            "/.well-known/openid-configuration": lambda request: _public(self.server_metadata()),
            "/.well-known/smart-configuration": lambda request: _public(self.smart_configuration()),
            "/jwks": lambda request: _public(dict(self._keys.jwks())),
        }
        for resource in self._settings.resources:
            document = self._resource_door(resource)
            found[resource.path + "/.well-known/smart-configuration"] = found[
                "/.well-known/smart-configuration"
            ]
            found["/.well-known/oauth-protected-resource" + resource.path] = document
            found.setdefault("/.well-known/oauth-protected-resource", document)
        return found

    def _resource_door(self, resource: Protected) -> Callable[[HttpRequest], Answer]:
        def door(request: HttpRequest) -> Answer:
            return _public(
                self.resource_metadata(resource, mtls=request.origin == self._settings.mtls_origin)
            )

        return door


def _public(value: dict[str, object]) -> Answer:
    answer = json_answer(200, value)
    return Answer(answer.status, (*_SHORT_CACHE, *_CORS), answer.body)
