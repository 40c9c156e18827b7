"""The section storage of gateway.yaml: the embedded store, or the server that several nodes share."""

from importlib.util import find_spec

from authz.storage.postgresql_settings import PostgresqlSettings, dsn_fault
from authz.storage.store import StoreSettings
from gateway.config.schema import Section

_ADDRESS = "postgresql://user:password@host/database?sslmode=verify-full"


def read_storage(top: Section) -> StoreSettings:
    """Which store, and where."""
    section = top.section("storage")
    if section is None:
        return StoreSettings(path=str(top.folder / "state/securus.db"))
    section.known("kind", "path", "synchronous", "postgresql")
    kind = section.word(
        "kind", ("sqlite", "postgresql"), "postgresql" if section.has("postgresql") else "sqlite"
    )
    if kind == "sqlite":
        if section.has("postgresql"):
            said = "storage.kind is 'sqlite' and storage.postgresql names a server: one of them must go"
            section.report(section.place("postgresql"), said)
        return StoreSettings(
            path=str(section.path_of("path", "state/securus.db")),
            options={"synchronous": section.word("synchronous", ("normal", "full"), "normal")},
        )
    for key in ("path", "synchronous"):
        if section.has(key):
            section.report(section.place(key), f"storage.{key} is for SQLite and means nothing to PostgreSQL")
    return StoreSettings(kind=kind, path="", postgresql=_postgresql(section))


def _postgresql(section: Section) -> PostgresqlSettings:
    default = PostgresqlSettings("")
    inner = section.section("postgresql", required=True)
    if inner is None:
        return default
    inner.known("dsn", "pool", "statement_timeout", "connect_timeout")
    dsn = inner.secret("dsn") or ""
    fault = dsn_fault(dsn) if dsn else None
    if fault is not None:
        inner.report(inner.place("dsn"), f"storage.postgresql.dsn: {fault}, expected such as {_ADDRESS}")
    if find_spec("asyncpg") is None:
        said = "storage.postgresql needs asyncpg, which is not installed: pip install 'securus[postgresql]'"
        inner.report(inner.node.place, said)
    return PostgresqlSettings(
        dsn=dsn,
        pool=inner.integer("pool", default.pool, low=1, high=100),
        statement_timeout_seconds=inner.seconds(
            "statement_timeout", default.statement_timeout_seconds, low=0.1, high=60
        ),
        connect_timeout_seconds=inner.seconds(
            "connect_timeout", default.connect_timeout_seconds, low=0.1, high=60
        ),
    )
