"""The direction of every import: a room may use only what stands below it."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Top to bottom. A module may import from its own line and from the lines below it.
FLOORS = [
    "gateway.__main__",
    "gateway.cli",
    "gateway.commands",
    "gateway.demo",
    "gateway.serving gateway.workers",
    "gateway.app",
    "gateway.doors",
    "gateway.engines gateway.mounts gateway.officer gateway.pickers gateway.sealing gateway.account",
    "gateway.cds_services",
    "gateway.operations",
    "gateway.report",
    "gateway.listening gateway.fetching",
    "gateway.listener gateway.operators_listener gateway.tls gateway.evaluations gateway.consent_service",
    "gateway.descriptors",
    "gateway.document_services",
    "gateway.proxy",
    "gateway.wire",
    "gateway.admission gateway.background gateway.cors gateway.emergencies gateway.notifications",
    "gateway.audit gateway.telemetry gateway.log_lines gateway.config gateway.signing_keys",
    "gateway.counting gateway.quiet",
    "gateway.settings gateway.policies_folder gateway.terminal",
    "gateway.audit_settings gateway.account_settings gateway.document_settings",
    "gateway.xds_settings",
    "gateway.workers.line gateway.workers.totals gateway.workers.worker",
    "gateway.officer_settings",
    "gateway.policy",
    "gateway.consents",
    "gateway.fhir gateway.cda gateway.yaml_source",
    "authz.server",
    "authz.doors",
    "authz.account.doors",
    "authz.account",
    "authz.endpoints",
    "authz.login authz.resource_server authz.grant_endings authz.descriptions",
    "authz.registry",
    "authz.registration_requests authz.initial_access_tokens",
    "authz.registry_writing",
    "authz.keys authz.http authz.revocations authz.client_directory authz.fetch authz.client_keys",
    "authz.fetch_exchange",
    "authz.fetched",
    "authz.registered",
    "authz.storage",
    "authz.settings authz.kept_current",
    "authz.handles",
    "authz.protocol authz.events authz.clock authz.beside authz.networks authz.csv_text authz.outgoing_tls",
]
PURE = (
    "authz.protocol",
    "authz.events",
    "authz.settings",
    "gateway.audit.events",
    "gateway.audit.merkle",
    "gateway.cda",
    "gateway.consents",
    "gateway.fhir",
    "gateway.policy",
    "gateway.report.rules",
    "gateway.yaml_source",
)
PURE_MAY_USE = {
    "__future__", "abc", "base64", "binascii", "bisect", "codecs", "collections", "copy", "cryptography", "dataclasses",
    "datetime", "decimal", "difflib", "enum", "fnmatch", "functools", "gzip", "hashlib", "heapq", "hmac", "html",
    "importlib.resources", "ipaddress", "itertools", "json", "jwt", "math", "msgspec", "operator", "re", "string", "struct",
    "types", "typing", "unicodedata", "urllib.parse", "xml", "yaml", "zlib", "zoneinfo",
}  # fmt: skip
BUILD_SCRIPTS = {
    "gateway.fhir.tables.build_tables",
    "gateway.demo.data.build_data",
    "gateway.demo.data.build_documents",
}

# What a pure room may take from the other package.
FROM_AUTHZ = {
    "gateway.fhir": {"protocol.encoding"},
    "gateway.policy": {
        "protocol.scopes",
        "protocol.tokens",
        "protocol.clients",
        "protocol.encoding",
        "protocol.authorization_details",
        "protocol.openid",
    },
}
# Nouns that prove a check took place: only the module that makes the check may construct them.
MADE_BY = {
    "Proof": "authz.protocol.dpop",
    "Caller": "authz.protocol.tokens",
    "AuthenticatedClient": "authz.endpoints.client_authentication",
    "HttpRequest": "authz.http",
    "ClientMetadata": "authz.protocol.client_metadata",
    "SoftwareStatement": "authz.protocol.software_statements",
    "Permit": "gateway.policy.engine gateway.policy.searches",
}


@cache
def modules() -> list[str]:
    files = [*ROOT.glob("authz/**/*.py"), *ROOT.glob("gateway/**/*.py")]
    names = sorted(
        ".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files if f.name != "__init__.py"
    )
    return [name for name in names if name not in BUILD_SCRIPTS]


@cache
def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))))


@cache
def imports(module: str) -> set[str]:
    found = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):  # ast.walk also finds imports hidden in functions
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import on line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def floor(module: str) -> int:
    for number, names in enumerate(reversed(FLOORS)):
        if any(module == name or module.startswith(name + ".") for name in names.split()):
            return number
    raise AssertionError(f"{module} has no floor: add it to FLOORS, or find it a better home")


def ours(name: str) -> bool:
    return name.split(".")[0] in ("authz", "gateway")


@pytest.mark.parametrize("module", modules())
def test_imports_run_downwards(module: str) -> None:
    wrong = [name for name in imports(module) if ours(name) and floor(name) > floor(module)]
    assert wrong == [], f"{module} reaches up to {wrong}"


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("authz.")])
def test_the_authorization_server_knows_nothing_of_the_gateway(module: str) -> None:
    assert not [name for name in imports(module) if name.startswith("gateway")]


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith(PURE)])
def test_rules_do_no_io(module: str) -> None:
    foreign = {name for name in imports(module) if not ours(name)}
    wrong = [n for n in foreign if not any(n == ok or n.startswith(ok + ".") for ok in PURE_MAY_USE)]
    assert wrong == [], f"{module} is pure but imports {wrong}"
    impure = [name for name in imports(module) if ours(name) and not name.startswith(PURE)]
    assert impure == [], f"{module} is pure but uses {impure}"


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith(tuple(FROM_AUTHZ))])
def test_rooms_take_only_what_they_share(module: str) -> None:
    room = next(room for room in FROM_AUTHZ if module.startswith(room))
    for name in imports(module):
        if name.startswith("authz."):
            assert any(name.startswith("authz." + ok) for ok in FROM_AUTHZ[room]), f"{module} takes {name}"


@pytest.mark.parametrize("module", modules())
def test_proofs_are_made_at_home(module: str) -> None:
    for node in nodes(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            assert module in MADE_BY.get(name, module).split(), (
                f"{module}:{node.lineno} makes a {name} of its own"
            )


@pytest.mark.parametrize("module", modules())
def test_no_junk_drawers(module: str) -> None:
    drawers = {"base", "common", "core", "helpers", "misc", "util", "utils"}
    assert module.rsplit(".", 1)[-1] not in drawers


def test_no_circles() -> None:
    below = {
        m: {n for n in modules() for i in imports(m) if i == n or i.startswith(n + ".")} - {m}
        for m in modules()
    }
    while ready := [m for m, uses in below.items() if not uses & below.keys()]:
        for module in ready:
            del below[module]
    assert not below, f"import circle among {sorted(below)}"
