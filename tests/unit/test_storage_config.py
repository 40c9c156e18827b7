"""The section storage of gateway.yaml: one store, its address by reference, and never the address in a message."""

from pathlib import Path

import pytest

from gateway.config import storage
from gateway.config.document import load
from tests.unit.test_config import CONFIGURATION, SECRET, Write, problems, write

__all__ = ["write"]  # the fixture
DSN = f"postgresql://gateway:{SECRET}@db.example/securus?sslmode=verify-full&sslrootcert=/etc/ca.pem"


def storage_of(text: str) -> str:
    return CONFIGURATION + f"storage: {text}\n"


def test_the_address_comes_from_a_file_or_a_variable_and_is_not_shown(write: Write, tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text(DSN + "\n")
    for reference in ("{file: dsn}", "{env: DSN}"):
        text = f"{{postgresql: {{dsn: {reference}, pool: 4, statement_timeout: 2s, connect_timeout: 500ms}}}}"
        found = load(write(storage_of(text)), {"DSN": DSN}).storage
        assert found.kind == "postgresql"
        assert found.postgresql is not None
        assert (found.postgresql.dsn, found.postgresql.pool) == (DSN, 4)
        assert found.postgresql.statement_timeout_seconds == 2
        assert found.postgresql.connect_timeout_seconds == 0.5
        assert SECRET not in repr(found)


def test_without_the_section_it_is_sqlite(write: Write, tmp_path: Path) -> None:
    for text in (CONFIGURATION, storage_of("{kind: sqlite}"), storage_of("{synchronous: normal}")):
        found = load(write(text), {}).storage
        assert (found.kind, found.path, found.postgresql) == (
            "sqlite",
            str(tmp_path / "state/securus.db"),
            None,
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{kind: postgres}", "expected sqlite or postgresql. Did you mean 'postgresql'?"),
        ("{kind: postgresql}", "storage.postgresql is missing"),
        ("{kind: sqlite, postgresql: {dsn: {env: DSN}}}", "one of them must go"),
        ("{path: a.db, postgresql: {dsn: {env: DSN}}}", "storage.path is for SQLite"),
        ("{synchronous: full, postgresql: {dsn: {env: DSN}}}", "storage.synchronous is for SQLite"),
        ("{postgresql: {}}", "storage.postgresql.dsn is missing, expected {file: …} or {env: …}"),
        (f'{{postgresql: {{dsn: "{DSN}"}}}}', "storage.postgresql.dsn is text, expected a reference"),
        ("{postgresql: {dns: {env: DSN}, dsn: {env: DSN}}}", "no key 'dns'. Did you mean 'dsn'?"),
        ("{postgresql: {dsn: {env: PLAIN}}}", "the host db.example needs an explicit sslmode"),
        ("{postgresql: {dsn: {env: MYSQL}}}", "does not begin with postgresql://"),
        ("{postgresql: {dsn: {env: DSN}, pool: 0}}", "expected a whole number from 1 to 100"),
        ("{postgresql: {dsn: {env: DSN}, statement_timeout: 5}}", "expected a duration"),
    ],
)
def test_what_is_wrong_is_said_at_its_place_without_the_address(write: Write, text: str, said: str) -> None:
    plain = DSN.partition("?")[0]
    (found, *_) = problems(
        write(storage_of(text)), DSN=DSN, PLAIN=plain, MYSQL=plain.replace("postgresql", "mysql")
    )
    assert said in found


def test_without_asyncpg_the_configuration_says_what_to_install(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    (found,) = problems(write(storage_of("{postgresql: {dsn: {env: DSN}}}")), DSN=DSN)
    assert "pip install 'securus[postgresql]'" in found
