"""ID tokens that come back to us as hints: ours by signature and issuer, however old (OpenID Connect Core 3.1.2.1)."""

from dataclasses import dataclass

from authz.keys import KeyRing
from authz.protocol import jose
from authz.protocol.jose import JoseError

_ALGORITHMS = jose.ALGORITHMS | jose.OF_ID_TOKENS


@dataclass(frozen=True, slots=True)
class Hint:
    """Whom an ID token of ours names, and to which client."""

    subject: str
    client_id: str


def read_hint(id_token: str, keys: KeyRing, issuer: str) -> Hint | None:
    """What an ID token says when one of our published keys signed it; None for every other text."""
    try:
        jws = jose.parse_compact(id_token)
        kid = jws.header.get("kid")
        key = keys.public_key(kid) if isinstance(kid, str) else None
        if key is None or jws.header.get("typ") != "JWT":
            return None
        key.verify(jws.signature, jws.signing_input, jose.algorithm_of(jws.header, _ALGORITHMS))
        claims = jose.json_object(jws.payload, "payload")
    except JoseError:
        return None
    subject, client_id = claims.get("sub"), claims.get("aud")
    if claims.get("iss") != issuer or not isinstance(subject, str) or not isinstance(client_id, str):
        return None
    # A signed response or userinfo has the same typ: only an ID token says when it was made for whom.
    return Hint(subject, client_id) if "iat" in claims and "at_hash" in claims else None
