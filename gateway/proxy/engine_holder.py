"""The policies in force, for all who decide."""

from dataclasses import dataclass

from gateway.policy.engine import Engine


@dataclass(slots=True)
class EngineHolder:
    """The policies in force. A reload swaps the engine in one assignment; a request keeps the one it began with."""

    engine: Engine | None
