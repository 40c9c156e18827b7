"""Headers of which each request may have a value of its own, and still be like another: the one table of them.

A value is cut out where it has its form to the last byte: one space after the colon, no blank at its end, nothing but
characters that stand for themselves in any reading. So a head with it is read as one with any other value of the form is,
and the header holds just these characters. A value that has not its form stays in the head, which is then like those alone
that have the same.

What is decided by each stands with it: a row is added only with an answer to that, here and in gateway.proxy.precedents.
"""

import re

_TEXT = rb"[!-~](?:[ -~]{0,%d}[!-~])?"  # what authz.http takes in any header, of bounded length
_FORMS: dict[str, bytes] = {
    # The proof: looked at as a whole each time (RFC 9449 4.3).
    "dpop": rb"[A-Za-z0-9\-_.]++",
    # Names the interaction in answer and record, and to the store, where it is a UUID; else a new one does.
    "x-fapi-interaction-id": rb"[0-9A-Za-z\-]{36}",
    # Goes to the store and into the record (W3C Trace Context 3.2.2, version 00).
    "traceparent": rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
    # Goes to the store (W3C Trace Context 3.3).
    "tracestate": _TEXT % 510,
    # Nobody reads these two: the id that counts is the one above.
    "x-request-id": rb"[!-~]{1,128}",
    "x-correlation-id": rb"[!-~]{1,128}",
    # Names the caller where a trusted proxy says it, and is nothing elsewhere.
    "x-forwarded-for": rb"[0-9A-Fa-f.:\[](?:[0-9A-Fa-f.:,\[\] ]{0,198}[0-9A-Fa-f.:\]])?",
    # Nobody reads it: where it came through is told by the header above.
    "forwarded": _TEXT % 254,
}
_NAMES = tuple(_FORMS)
_INITIALS = "".join(sorted({name[0] for name in _NAMES})).encode()
# Behind the end of a line, so that it is a header: a line that goes on another begins with a blank (RFC 9112 5.2). One
# look at the first letter is enough for most.
_FIELD = re.compile(
    rb"\r\n(?i:(?=[%b]))(?:%b)(?=\r\n)"
    % (
        _INITIALS,
        b"|".join([rb"(?i:%b): (%b)" % (re.escape(name.encode()), form) for name, form in _FORMS.items()]),
    )
)


def apart(head: bytes, start: int) -> tuple[tuple[bytes, ...], dict[str, bytes]]:
    """The pieces of a head from start on that stay, and the values between them; of two of one header, the second.

    A piece ends with the name of the header whose value follows it, so that equal pieces have their values at one place.
    """
    pieces, values = [], {}
    for field in _FIELD.finditer(head, start):
        which = field.lastindex or 0
        at, end = field.span(which)
        pieces.append(head[start:at])
        values[_NAMES[which - 1]] = head[at:end]
        start = end
    pieces.append(head[start:])
    return tuple(pieces), values
