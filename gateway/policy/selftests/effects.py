"""What tests inside policy files say of an emergency: `reason` of `as`, or the header of the request that carries it."""

from collections.abc import Mapping

from gateway.policy.obligations import Emergency

REASON_HEADER = "x-break-glass-reason"


def emergency_of(body: Mapping[str, object], said: Mapping[str, object]) -> Emergency:
    """The emergency of a test: body is the test, said its `as`. Raises ValueError for what is not written right.

    Other headers say nothing to a policy: they change no decision here as they change none at the gateway.
    """
    headers = body.get("headers", {})
    if not isinstance(headers, Mapping) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError("'headers' must be a mapping of names to text, such as {X-Break-Glass-Reason: …}")
    found = [value for name, value in headers.items() if str(name).lower() == REASON_HEADER]
    if "reason" in said:
        found.append(said["reason"])
    if len(found) > 1:
        raise ValueError("the reason is said once: as 'reason' of 'as', or in one header")
    reason = found[0] if found else None
    if reason is not None and not isinstance(reason, str):
        raise ValueError("'reason' must be text: why the chart is opened")
    return Emergency(reason)
