"""Request → authenticated client: the rules of authz.protocol.client_authentication applied to a form request.

Authentication has two halves, because a client may send the same assertion again after a nonce challenge: prove()
checks everything and spends nothing; Proven.use is claimed by spending.py when all else is right.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256

import msgspec

from authz.client_keys import ClientKeys, KeySet, KeySetUnavailable
from authz.clock import Clock
from authz.events import ClockCompared, Emit
from authz.handles import digest
from authz.protocol import certificates, jose
from authz.protocol.client_authentication import Assertion, check_assertion, read_assertion
from authz.protocol.client_profiles import PROFILES
from authz.protocol.client_secrets import check_secret, read_basic
from authz.protocol.clients import AuthenticatedClient, AuthenticationMethod, Client, GrantType
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.jose import JoseError, PublicKey
from authz.protocol.request import HttpRequest
from authz.settings import AuthorizationSettings
from authz.storage.claims import Namespace, SingleUse
from authz.storage.store import Store

_TOKEN_PATH = "/token"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Proven(msgspec.Struct, frozen=True):
    """A client whose credentials are right, and the assertion that is still to be spent."""

    authenticated: AuthenticatedClient
    assertion: Assertion | None

    @property
    def use(self) -> SingleUse | None:
        """The assertion's jti (C6), to be claimed when all else is right; None where there is no assertion."""
        if self.assertion is None:
            return None
        key = sha256(f"{self.authenticated.client.client_id}\n{self.assertion.jti}".encode()).digest()[:16]
        return SingleUse(Namespace.CLIENT_ASSERTION, key, self.assertion.expires_at)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Whatever is refused within is recorded with the client's id."""
        try:
            yield
        except OAuthError as error:
            error.client_id = self.authenticated.client.client_id
            raise


Admit = Callable[[str], Awaitable[int]]
"""Whether a client that authenticated may go on now: 0, or the seconds that it must wait. Raises StoreUnavailable."""


class ClientAuthentication:
    """Authenticates clients at the PAR, token and revocation endpoints."""

    def __init__(
        self,
        settings: AuthorizationSettings,
        store: Store,
        clients: Mapping[str, Client],
        emit: Emit,
        client_keys: ClientKeys,
        clock: Clock,
        admit: Admit | None = None,
    ) -> None:
        self._admit = admit
        self._settings = settings
        self._store = store
        self._clients = clients
        self._emit = emit
        self._client_keys = client_keys
        self._clock = clock
        self._token_url = settings.issuer + _TOKEN_PATH
        methods = {m for name in settings.profiles for m in PROFILES[name].authentication_methods}
        self._takes_secrets = AuthenticationMethod.CLIENT_SECRET_BASIC in methods

    async def prove(self, request: HttpRequest, form: Mapping[str, str]) -> Proven:
        """The client of this request (C1 to C11), nothing spent.

        Raises OAuthError: INVALID_CLIENT, TEMPORARILY_UNAVAILABLE (429) for one that asks too often.
        """
        proven = await self._prove(request, form)
        client = proven.authenticated.client
        # A public client proves nothing: who only says to be one must not use up what its people may ask.
        if client.authentication_method is not AuthenticationMethod.NONE:
            await self.admit(client.client_id)
        return proven

    async def admit(self, client_id: str) -> None:
        """Count one request of a client that was found out. Raises OAuthError: TEMPORARILY_UNAVAILABLE (429)."""
        wait = 0 if self._admit is None else await self._admit(client_id)
        if wait:
            raise OAuthError(
                ErrorCode.TEMPORARILY_UNAVAILABLE,
                "this client asks more often than it may: wait as long as Retry-After says",
                status=429,
                retry_after_seconds=wait,
            )

    async def _prove(self, request: HttpRequest, form: Mapping[str, str]) -> Proven:
        if self._takes_secrets and request.headers.get("authorization", "").lower().startswith("basic "):
            return self._by_secret(request, form)
        if "authorization" in request.headers:
            raise _refused(
                "client authentication by the Authorization header is not supported: use private_key_jwt or mutual TLS"
            )
        if "client_secret" in form:
            raise _refused("client secrets are not accepted: use private_key_jwt or mutual TLS")
        now = self._clock()
        if "client_assertion" in form or "client_assertion_type" in form:
            return await self._by_assertion(request, form, now)
        return await self._by_certificate(request, form, now)

    async def _by_assertion(self, request: HttpRequest, form: Mapping[str, str], now: int) -> Proven:
        if form.get("client_assertion_type") != _ASSERTION_TYPE:
            raise _refused(f"client_assertion_type must be {_ASSERTION_TYPE}")
        sent = form.get("client_assertion")
        if sent is None:
            raise _refused("client_assertion is missing: send the signed JWT beside client_assertion_type")
        assertion = read_assertion(sent)
        client = self._registered(assertion.client_id)
        if form.get("client_id", client.client_id) != client.client_id:
            raise _refused(
                "client_id is not the client of the assertion: leave it out, or send the sub of the assertion"
            )
        self._require_method(client, AuthenticationMethod.PRIVATE_KEY_JWT)
        try:
            checked = check_assertion(
                assertion,
                client=client,
                keys=await self.keys_of(client, assertion.kid),
                issuer=self._settings.issuer,
                # At an alias it is for that address, too: SMART has it name the one that it is posted to.
                token_urls=(self._token_url, request.origin + _TOKEN_PATH),
                now=now,
            )
        except OAuthError as error:
            if error.skew_seconds is not None:
                self._emit(ClockCompared("assertion", error.skew_seconds))
            raise
        if checked.issued_at is not None:
            self._emit(ClockCompared("assertion", checked.issued_at - now))
        return self._proven(request, client, checked)

    def _by_secret(self, request: HttpRequest, form: Mapping[str, str]) -> Proven:
        if "client_assertion" in form or "client_secret" in form:
            raise _refused(
                "a client authenticates by one method: the Authorization header, and nothing beside it"
            )
        client_id, secret = read_basic(request.headers["authorization"])
        if form.get("client_id", client_id) != client_id:
            raise _refused(
                "client_id is not the one of the Authorization header: leave it out, or send the same"
            )
        client = self._registered(client_id)
        self._require_method(client, AuthenticationMethod.CLIENT_SECRET_BASIC)
        now = self._clock()
        check_secret(secret, client, now=now)
        return self._proven(request, client, None)

    async def _by_certificate(self, request: HttpRequest, form: Mapping[str, str], now: int) -> Proven:
        client_id = form.get("client_id") or await self._holder_of_refresh_token(form, now)
        if client_id is None:
            raise _refused(
                "a client must authenticate: by client_assertion, or by certificate with client_id"
            )
        client = self._registered(client_id)
        if client.authentication_method is AuthenticationMethod.NONE:
            self._require_method(client, AuthenticationMethod.NONE)
            return self._proven(request, client, None)
        if request.certificate is None:
            raise _refused("the client did not authenticate: no client_assertion and no certificate was sent")
        if client.authentication_method is AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH:
            self._require_method(client, AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH)
            if not await self._registers(client, request.certificate):
                raise _refused(
                    "the certificate is not one of those registered for this client: register it as x5c of a key"
                )
        else:
            self._require_method(client, AuthenticationMethod.TLS_CLIENT_AUTH)
            if client.certificate_subject is None:
                raise _refused("no certificate subject is registered for this client: have one registered")
            certificates.verify_chain(
                request.certificate, request.chain, self._settings.certificate_anchors, now
            )
            if not certificates.subject_matches(request.certificate, client.certificate_subject):
                kind = client.certificate_subject.kind
                raise _refused(
                    f"the certificate is not that of the registered subject: its {kind} must be the same"
                )
        return self._proven(request, client, None)

    async def _holder_of_refresh_token(self, form: Mapping[str, str], now: int) -> str | None:
        """The public client that a refresh token was given to; None for one of another client, or unknown.

        SMART App Launch 2.2 lists no client_id in a refresh request, and apps send none. A public client proves nothing
        by it, and the token is held to its client all the same.
        """
        if form.get("grant_type") != GrantType.REFRESH_TOKEN:
            return None
        record = await self._store.refresh_token(digest(form.get("refresh_token", "")), now=now)
        client = None if record is None else self._clients.get(record.client_id)
        if client is None or client.authentication_method is not AuthenticationMethod.NONE:
            return None
        return client.client_id

    @staticmethod
    def _proven(request: HttpRequest, client: Client, assertion: Assertion | None) -> Proven:
        presented = None if request.certificate is None else certificates.thumbprint(request.certificate)
        return Proven(AuthenticatedClient(client, presented), assertion)

    def _registered(self, client_id: str) -> Client:
        client = self._clients.get(client_id)
        if client is None or client.profile not in self._settings.profiles:
            raise _refused("the client is not known here: check client_id, or have it registered")
        return client

    @staticmethod
    def _require_method(client: Client, method: AuthenticationMethod) -> None:
        if client.authentication_method is not method:
            raise _refused(f"the client is registered for {client.authentication_method}, not {method}")
        if method not in PROFILES[client.profile].authentication_methods:
            allowed = ", ".join(sorted(PROFILES[client.profile].authentication_methods))
            raise _refused(f"{method} is not allowed in the profile {client.profile}, which has {allowed}")

    async def keys_for(self, client: Client, token: str) -> tuple[PublicKey, ...]:
        """The client's public keys, to verify this token of it with.

        A key set by URL that lacks the token's kid may be fetched again. Raises OAuthError(INVALID_CLIENT) when the
        set cannot be had.
        """
        return await self.keys_of(client, _unverified_kid(token))

    async def keys_of(self, client: Client, kid: str | None) -> tuple[PublicKey, ...]:
        """The client's public keys; one with that kid is looked for. Raises what keys_for() raises."""
        found = await self._key_set(client, lambda known: kid is None or kid in {k.kid for k in known.keys})
        return found.keys

    async def _registers(self, client: Client, certificate: bytes) -> bool:
        """Whether a self-signed certificate is one of the client's (C11)."""

        def holds(known: KeySet) -> bool:
            return certificates.jwk_holds(certificate, known.jwks)

        return holds(await self._key_set(client, holds))

    async def _key_set(self, client: Client, holds: Callable[[KeySet], bool]) -> KeySet:
        try:
            return await self._client_keys.of(client, holds=holds)
        except KeySetUnavailable as error:
            said = "the key set of the client could not be had: see that its URL answers, or register keys by value"
            raise OAuthError(ErrorCode.INVALID_CLIENT, said, detail=str(error)) from error


def _unverified_kid(token: str) -> str | None:
    """The kid that a token names; None for one that names none or cannot be read, of which verification will say so."""
    try:
        kid = jose.parse_header(token.partition(".")[0]).get("kid")
    except JoseError:
        return None
    return kid if isinstance(kid, str) else None


def _refused(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_CLIENT, description)
