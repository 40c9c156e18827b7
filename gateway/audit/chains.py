"""Which chain a process appends to.

SQLite lets one process write at a time whatever it writes: all share the chain ''. Over PostgreSQL each node has a
chain under its name, and each further worker of a node one beside it: two never wait for the same row.
"""

import re
import socket

from gateway.settings import GatewaySettings

_FOREIGN = re.compile(r"[^A-Za-z0-9._-]")


def chain_of(settings: GatewaySettings, worker: int = 0) -> str:
    """The chain of a worker of this node; of a command, that of the first worker."""
    is_shared = settings.storage.postgresql is None
    node = settings.audit_log.node
    if node is None:
        node = "" if is_shared else _FOREIGN.sub("-", socket.gethostname())[:63] or "node"
    return node if is_shared or worker == 0 else f"{node}/{worker}"
