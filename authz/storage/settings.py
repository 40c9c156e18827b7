"""Which store keeps the records, and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.valkey_settings import ValkeySettings


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Which store, and where: path and options of SQLite, or the address of PostgreSQL."""

    kind: str = "sqlite"
    path: str = "state/securus.db"
    options: Mapping[str, str] = field(default_factory=dict)
    postgresql: PostgresqlSettings | None = None
    valkey: ValkeySettings | None = None  # where replay claims and rates are kept, beside either
