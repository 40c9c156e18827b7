"""The way back to the client: code or refusal in the query, or all of it in one signed response (JARM)."""

from authz.clock import Clock
from authz.keys import KeyRing
from authz.login.browser import redirect
from authz.protocol import authorization_answers
from authz.protocol.authorization_answers import RedirectTarget
from authz.protocol.errors import OAuthError
from authz.protocol.request import Answer


class AuthorizationResponses:
    """Answers authorization requests at their redirect URIs."""

    def __init__(self, issuer: str, keys: KeyRing, clock: Clock) -> None:
        self._issuer = issuer
        self._keys = keys
        self._clock = clock

    async def success(self, target: RedirectTarget, code: str) -> Answer:
        """The redirect with a code."""
        return await self._redirect(target, authorization_answers.success(target, code, issuer=self._issuer))

    async def failure(self, target: RedirectTarget, error: OAuthError) -> Answer:
        """The redirect with an error."""
        return await self._redirect(target, authorization_answers.failure(target, error, issuer=self._issuer))

    async def _redirect(self, target: RedirectTarget, answer: dict[str, str]) -> Answer:
        if target.signed:
            claims = authorization_answers.signed_response_claims(target, answer, now=self._clock())
            algorithm = target.signed_response_algorithm
            answer = {"response": await self._keys.sign(claims, typ="JWT", algorithm=algorithm)}
        return redirect(authorization_answers.answer_url(target, answer))
