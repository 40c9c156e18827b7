"""For whom the gateway asks a store just now: services that want to hear it are told (IHE XUA).

Reads of our own pass many hands between the request that needs them and the store. None of them decides by this: who may
do what is decided before, by arguments.
"""

from contextvars import ContextVar

from authz.protocol.tokens import Caller

ACTING: ContextVar[Caller | None] = ContextVar("acting", default=None)
"""The caller of the request that is being answered; None where nobody is known, or nobody asked."""
