"""Pages of an authorization in a frame of the record system: refused, unless the operator names who may.

An EHR launch may run in a frame within the record system (SMART App Launch 2.2, launch from the EHR), and with it the
pages at which a person signs in and decides. Whoever frames a page can lay something over it, so nobody may without
being named. Pages of an account, outside an authorization, stay where they are.
"""

from collections.abc import Sequence

from authz.protocol.request import Answer

PATHS = frozenset({"/authorize", "/sign-in", "/patient", "/encounter", "/consent"})
"""The pages of an authorization."""
_NOBODY = "frame-ancestors 'none'"


def in_frames_of(ancestors: Sequence[str], path: str, answer: Answer) -> Answer:
    """The answer, a page of an authorization with leave for these origins to frame it; as it is without any."""
    if not ancestors or path not in PATHS:
        return answer
    allowed = f"frame-ancestors {' '.join(ancestors)}"
    headers = tuple(
        (name, value.replace(_NOBODY, allowed) if name == "Content-Security-Policy" else value)
        for name, value in answer.headers
        if name
        != "X-Frame-Options"  # which knows no origins, and is obeyed beside the policy by old browsers
    )
    return Answer(answer.status, headers, answer.body, answer.trailer)
