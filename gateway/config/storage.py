"""The section storage of gateway.yaml: the embedded store, or the server that several nodes share; Valkey beside it."""

import re
from importlib.util import find_spec

from authz.storage.postgresql.settings import PostgresqlSettings, dsn_fault
from authz.storage.settings import StoreSettings
from authz.storage.valkey_settings import ValkeySettings, url_fault
from gateway.config.network import read_authorities
from gateway.config.schema import Section

_VALKEY = "valkeys://cache.hospital.example:6379/0"
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,60}")
_ADDRESS = "postgresql://user:password@host/database?sslmode=verify-full"


def read_storage(top: Section) -> StoreSettings:
    """Which store, and where."""
    section = top.section("storage")
    if section is None:
        return StoreSettings(path=str(top.folder / "state/securus.db"))
    section.known("kind", "path", "synchronous", "postgresql", "valkey")
    valkey = _valkey(section)
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
            valkey=valkey,
        )
    for key in ("path", "synchronous"):
        if section.has(key):
            section.report(section.place(key), f"storage.{key} is for SQLite and means nothing to PostgreSQL")
    return StoreSettings(kind=kind, path="", postgresql=_postgresql(section), valkey=valkey)


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


def _valkey(section: Section) -> ValkeySettings | None:
    inner = section.section("valkey")
    if inner is None:
        return None
    default = ValkeySettings("")
    inner.known(
        "url", "username", "password", "certificate_authorities", "prefix", "connections", "timeout"
    )  # fmt: skip
    url = inner.text("url", expected=f"an address such as {_VALKEY}")
    fault = url_fault(url) if url else None
    if fault is not None:
        inner.report(inner.place("url"), f"storage.valkey.url: {fault}, expected such as {_VALKEY}")
    if find_spec("redis") is None:
        said = "storage.valkey needs redis, which is not installed: pip install 'securus[valkey]'"
        inner.report(inner.node.place, said)
    prefix = inner.text("prefix", default.prefix)
    if not _PREFIX.fullmatch(prefix):
        inner.report(
            inner.place("prefix"), f"storage.valkey.prefix is '{prefix}', expected letters and digits"
        )
    authorities = read_authorities(inner)
    return ValkeySettings(
        url=url,
        username=inner.optional_text("username"),
        password=inner.secret("password", required=False),
        authorities=None if authorities is None else authorities.read_bytes().decode("ascii", "replace"),
        prefix=prefix,
        connections=inner.integer("connections", default.connections, low=1, high=1000),
        timeout_seconds=inner.seconds("timeout", default.timeout_seconds, low=0.05, high=30),
    )
