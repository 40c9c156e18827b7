"""Headers of which each request may have a value of its own, and still be like another: the one table of them.

A value is cut out where it has its form to the last byte: one space after the colon, no blank at its end, nothing but
characters that stand for themselves in any reading. So a head with it is read as one with any other value of the form is,
and the header holds just these characters. A value that has not its form stays in the head, which is then like those alone
that have the same.

What is decided by each stands with it: a row is added only with an answer to that, here and in gateway.proxy.precedents.
"""

import re

_SPAN = rb"[0-9a-f]{16}"
_TEXT = rb"[!-~](?:[ -~]{0,%d}[!-~])?"  # what authz.http takes in any header, of bounded length
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110 5.6.2
_SAID = rb" ?=(?: ?[!#-+\--:<-\[\]-~]++)?"
_MEMBER = rb"%b%b(?: ?; ?%b(?:%b)?)*+" % (_TOKEN, _SAID, _TOKEN, _SAID)  # W3C Baggage 3.3.1
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
    # Nobody reads those below, and the store is not told of them: traces by others than W3C, and what goes along with one.
    # Zipkin's B3, in one header and in several (openzipkin/b3-propagation).
    "b3": rb"(?:[0-9a-f]{16}){1,2}-%b(?:-[01d](?:-%b)?)?|[01d]" % (_SPAN, _SPAN),
    "x-b3-traceid": rb"(?:[0-9a-f]{16}){1,2}",
    "x-b3-spanid": _SPAN,
    "x-b3-parentspanid": _SPAN,
    "x-b3-sampled": rb"[01]|true|false",
    "x-b3-flags": rb"[01]",
    # Datadog's: numbers of 64 bits, and tags of 512 bytes.
    "x-datadog-trace-id": rb"[0-9]{1,20}",
    "x-datadog-parent-id": rb"[0-9]{1,20}",
    "x-datadog-sampling-priority": rb"-?[0-9]",
    "x-datadog-origin": rb"[0-9A-Za-z_\-]{1,64}",
    "x-datadog-tags": rb"[!-~](?:[ -~]{0,510}[!-~])?",
    # AWS X-Ray: fields such as Root=1-5759e988-bd862e3fe1be46a994272793, apart by ';'.
    "x-amzn-trace-id": rb"%b(?:; ?%b){0,7}" % ((rb"[0-9A-Za-z]{1,32}=[0-9A-Za-z:.\-_|]{1,128}",) * 2),
    # Google Cloud: the trace, the span as a number, options.
    "x-cloud-trace-context": rb"[0-9A-Fa-f]{32}(?:/[0-9]{1,20})?(?:;o=[0-9])?",
    # W3C Baggage 3.3: at most 64 members and 8192 bytes.
    "baggage": rb"(?=[ -~]{1,8192}+\r\n)%b(?: ?, ?%b){0,63}" % ((_MEMBER,) * 2),
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
