"""TLS to others, judged the same by every Python: the chain up to a trusted root, the name and the days.

From 3.13 on a context of Python's refuses certificates that leave out what RFC 5280 4.2 asks for, such as the identifier
of the authority's key, and takes an intermediate authority for a root. What a hospital's own authority issued must not
stop working because the interpreter is a newer one, nor must the set of those who are believed grow with it.
"""

import ssl

OF_NEWER_PYTHONS = (ssl.VERIFY_X509_STRICT, ssl.VERIFY_X509_PARTIAL_CHAIN)
"""What a context is told to leave out."""


def client_context(authorities: str | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer to whom these authorities vouch for, a file of PEM; without one those of the system do.

    It reads files: not for the event loop. Raises OSError, ssl.SSLError.
    """
    context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for flag in OF_NEWER_PYTHONS:
        context.verify_flags &= ~flag
    return context
