"""The registrations that matter to requests, as one node keeps them: short, and found by what is asked for.

What is asked at each change or by each request is kept beside the records, so that nothing walks through all of them:
who was stopped, whose pages may read answers, who authenticates by a certificate of its own.
"""

from collections import Counter
from collections.abc import Mapping

from authz.protocol.clients import AuthenticationMethod
from authz.protocol.origins import origins_of_uris
from authz.storage.records import encode
from authz.storage.registrations import Registration, RegistrationStatus

_STOPPED = frozenset({RegistrationStatus.SUSPENDED, RegistrationStatus.REJECTED, RegistrationStatus.DELETED})
_SELF_SIGNED = str(AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH)


class Registered:
    """What the store said of each client, by take().

    records      client_id → the record of one that was approved, as JSON: a tenth of what it takes as objects
    stopped      the clients that were suspended, rejected or deleted, those of gateway.yaml too
    origins      of how many approved clients an origin is
    self_signed  the approved clients that authenticate by a self-signed certificate
    """

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.stopped: set[str] = set()
        self.origins: Counter[str] = Counter()
        self.self_signed: set[str] = set()
        self._origins_of: dict[str, frozenset[str]] = {}

    def take(self, registration: Registration) -> None:
        """Put this in the place of what was known of the client."""
        client_id = registration.client_id
        self.records.pop(client_id, None)
        self.stopped.discard(client_id)
        self.self_signed.discard(client_id)
        for origin in self._origins_of.pop(client_id, ()):
            self.origins[origin] -= 1
            if not self.origins[origin]:
                del self.origins[origin]
        if registration.status in _STOPPED:
            self.stopped.add(client_id)
        elif registration.status is RegistrationStatus.APPROVED and not registration.configured:
            self._approve(registration)

    def _approve(self, registration: Registration) -> None:
        client_id = registration.client_id
        self.records[client_id] = encode(registration)
        # What a software statement says overrides what the client says (RFC 7591 2.3).
        said: Mapping[str, object] = {**registration.metadata, **registration.stated}
        if said.get("token_endpoint_auth_method") == _SELF_SIGNED:
            self.self_signed.add(client_id)
        uris = said.get("redirect_uris")
        found = (
            origins_of_uris(uri for uri in uris if isinstance(uri, str)) if isinstance(uris, list) else None
        )
        if found:
            self._origins_of[client_id] = found
            self.origins.update(found)
