"""securus client … and the verbs about grants: what they print, what they change, and what they leave in the audit log."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authz.clock import system_clock
from authz.protocol.tokens import Grant
from authz.storage.sqlite.store import open_store
from gateway.cli import main
from tests.support.administration import metadata
from tests.unit.test_cli import folder, run  # noqa: F401 - fixtures

Run = Callable[..., tuple[int, str, str]]
Ask = Callable[..., Any]
WHY = ("--why", "ticket 12")


@pytest.fixture
def ask(run: Run, folder: Path) -> Ask:  # noqa: F811
    """Runs a verb that must succeed over a store; the JSON value that it prints."""
    asyncio.run(_grants(folder))

    def asked(*arguments: str) -> Any:
        code, out, err = run(*arguments, "--json")
        assert code == 0, (out, err)
        return json.loads(out)

    asked.folder = folder  # type: ignore[attr-defined]
    return asked


async def _grants(folder: Path) -> None:  # noqa: F811
    """A store with two grants of ann, and one of somebody whose account is gone."""
    store = await open_store(folder / "securus.db")
    now = system_clock()
    for number, (subject, client_id) in enumerate((("s1", "lab"), ("s1", "other"), ("gone", "lab"))):
        grant = Grant(
            grant_id=f"g{number}",
            client_id=client_id,
            subject=subject,
            scope=("patient/*.rs",),
            audience=("https://fhir.example/fhir/r4",),
            context={"patient": "A"},
            claims={"roles": ["patient"]},
            created_at=now,
        )
        await store.put_grant(grant, expires_at=now + 1000)
    await store.close()


def audit(ask: Ask) -> list[dict[str, Any]]:
    """Every audit record, of a chain that is whole."""
    assert ask("audit", "verify")["whole"] is True

    async def read() -> list[dict[str, Any]]:
        store = await open_store(ask.folder / "securus.db")  # type: ignore[attr-defined]
        lines = await store.audit(after=0, limit=100)
        await store.close()
        return [json.loads(line.line) for line in lines]

    return asyncio.run(read())


def registered(ask: Ask, folder: Path, *more: str, **changes: object) -> dict[str, Any]:  # noqa: F811
    (folder / "app.json").write_text(json.dumps(metadata(**changes)))
    made: dict[str, Any] = ask("client", "register", str(folder / "app.json"), *WHY, *more)
    return made


def test_a_client_is_registered_decided_upon_and_deleted(ask: Ask, folder: Path) -> None:  # noqa: F811
    made = registered(ask, folder, "--by", "Kim Privacy")
    client_id = made["client_id"]
    assert (made["status"], set(made)) == ("pending", {"client_id", "status", "registration_access_token"})
    assert [row["client_id"] for row in ask("client", "list", "--status", "pending")] == [client_id]
    assert ask("client", "approve", client_id, "--version", "1", *WHY)["status"] == "approved"
    assert ask("client", "suspend", client_id, *WHY)["status"] == "suspended"
    assert ask("client", "reactivate", client_id, *WHY)["status"] == "approved"
    assert ask("client", "show", client_id)["metadata"]["client_name"] == "New app"
    renewed = ask("client", "renew-token", client_id, *WHY)
    assert renewed["registration_access_token"] != made["registration_access_token"]
    assert ask("client", "delete", client_id, *WHY)["status"] == "deleted"
    history = ask("client", "history", client_id)
    assert [row["what"] for row in history] == [
        "registered", "approved", "suspended", "reactivated", "token-renewed", "deleted",
    ]  # fmt: skip
    assert history[0]["who"] == "Kim Privacy"
    assert history[1]["who"].startswith("operator ")
    assert {row["why"] for row in history} == {"ticket 12"}
    told = [(record["event"], record["what"], record["why"]) for record in audit(ask)]
    assert told == [("client-changed", row["what"], "ticket 12") for row in history]


def test_a_registration_is_rejected_or_in_force_at_once(ask: Ask, folder: Path) -> None:  # noqa: F811
    client_id = registered(ask, folder)["client_id"]
    assert ask("client", "reject", client_id, *WHY)["status"] == "rejected"
    assert registered(ask, folder, "--approved")["status"] == "approved"


def test_a_client_of_another_profile_is_registered_with_a_secret_that_is_renewed(
    ask: Ask,
    run: Run,  # noqa: F811
    folder: Path,  # noqa: F811
) -> None:
    text = (folder / "gateway.yaml").read_text()
    more = "authorization: {profiles: [fapi2, smart-symmetric, smart-asymmetric]}\nregistration: {require_dpop: false}\n"
    (folder / "gateway.yaml").write_text(text + more)
    without = {"token_endpoint_auth_method": "client_secret_basic", "dpop_bound_access_tokens": False}
    made = registered(ask, folder, "--profile", "smart-symmetric", "--approved", **without)
    client_id = made["client_id"]
    shown = ask("client", "show", client_id)
    assert (shown["profile"], shown["binding"]) == ("smart-symmetric", "none")
    assert made["client_secret"] not in json.dumps(shown)
    renewed = ask("client", "new-secret", client_id, *WHY)["client_secret"]
    assert len(renewed) == 43
    assert renewed != made["client_secret"]
    assert ask("client", "new-secret", client_id, "--old-for", "1d", *WHY)["client_secret"] != renewed
    other = registered(ask, folder, "--approved")["client_id"]
    assert ask("client", "set-profile", other, "smart-asymmetric", "--version", "1", *WHY)["profile"] == (
        "smart-asymmetric"
    )
    assert "has no secret" in run("client", "new-secret", other, *WHY)[2]
    assert "not switched on" in run("client", "set-profile", other, "smart-public", *WHY)[2]
    assert [r["what"] for r in ask("client", "history", client_id)] == ["registered"] + ["secret-renewed"] * 2
    changes = [record["what"] for record in audit(ask)]
    assert changes == ["registered", "secret-renewed", "secret-renewed", "registered", "profile-changed"]


def test_a_client_of_the_configuration_is_suspended_and_listed_so(ask: Ask) -> None:
    assert ask("client", "suspend", "lab", *WHY)["status"] == "suspended"
    (row,) = ask("client", "list")
    assert (row["client_id"], row["status"], row["configured"]) == ("lab", "suspended", True)
    assert ask("client", "grants", "lab") == []  # they ended with it


def test_initial_access_tokens_are_made_listed_and_withdrawn(ask: Ask) -> None:
    made = ask("client", "token", *WHY, "--uses", "3", "--expires", "12h", "--scope", "system/*.rs")
    assert (made["uses_left"], made["scope"]) == (3, "system/*.rs")
    assert made["expires_at"] - made["created_at"] == 12 * 3600
    (row,) = ask("client", "tokens")
    assert (row["id"], "initial_access_token" in row) == (made["id"], False)
    assert ask("client", "withdraw-token", made["id"], *WHY) == {"withdrawn": made["id"]}
    assert ask("client", "tokens") == []
    assert made["initial_access_token"] not in json.dumps(audit(ask))


def test_I2_grants_of_a_person_are_listed_and_ended(ask: Ask) -> None:
    assert {grant["grant_id"] for grant in ask("user", "grants", "ann")} == {"g0", "g1"}
    assert [grant["grant_id"] for grant in ask("user", "grants", "gone")] == ["g2"]
    ended = ask("user", "revoke-grants", "ann", "--client", "other", *WHY)
    assert [grant["grant_id"] for grant in ended] == ["g1"]
    assert [grant["grant_id"] for grant in ask("user", "revoke-grants", "ann", *WHY)] == ["g0"]
    assert ask("user", "revoke-grants", "ann", *WHY) == []
    assert [(r["event"], r["grant_id"], r["reason"], r["why"]) for r in audit(ask)] == [
        ("grant-revoked", "g1", "administrator", "ticket 12"),
        ("grant-revoked", "g0", "administrator", "ticket 12"),
    ]


def test_I2_grants_of_a_client_are_listed_and_ended(ask: Ask) -> None:
    assert {grant["grant_id"] for grant in ask("client", "grants", "lab")} == {"g0", "g2"}
    ended = ask("client", "revoke-grants", "lab", "--by", "Kim", *WHY)
    assert {grant["grant_id"] for grant in ended} == {"g0", "g2"}
    assert {record["who"] for record in audit(ask)} == {"Kim"}
    assert ask("client", "grants", "lab") == []


def test_text_says_the_same_in_lines(ask: Ask, run: Run, folder: Path) -> None:  # noqa: F811
    client_id = registered(ask, folder)["client_id"]
    assert run("client", "list", "--status", "pending") == (
        0, f"{client_id}\tpending\tprivate_key_jwt\tdpop\tNew app\t(registration waits)\n", ""
    )  # fmt: skip
    assert "status: pending\n" in run("client", "show", client_id)[1]
    assert "\tregistered\toperator " in run("client", "history", client_id)[1]
    assert run("client", "approve", client_id, *WHY)[1] == f"{client_id}: approved\n"
    assert run("client", "tokens")[1] == "no initial access token\n"
    assert run("client", "grants", "nobody")[1] == "no grant\n"
    assert run("client", "revoke-grants", "nobody", *WHY)[1] == "no grant was live\n"
    assert run("client", "history", "lab")[1] == "nothing was done to this client\n"
    assert run("user", "grants", "gone")[1] == "g2\tlab\tgone\tpatient/*.rs\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "nobody"), "there is no client 'nobody'"),
        (("approve", "nobody", *WHY), "the client 'nobody' is unknown"),
        (("delete", "lab", *WHY), "of gateway.yaml"),
        (("token", "--uses", "0", *WHY), "uses is 0, expected 1 to 1000"),
        (("register", "FOLDER/lab.jwks", *WHY), "token_endpoint_auth_method: is missing"),
        (("register", "FOLDER/gateway.yaml", *WHY), "is not JSON with one reading"),
        (("register", "FOLDER/none.json", *WHY), "No such file"),
        (("withdraw-token", "x", *WHY), "there is no initial access token 'x'"),
    ],
)
def test_what_is_refused_is_exit_1_with_its_reason(
    ask: Ask,
    run: Run,  # noqa: F811
    folder: Path,  # noqa: F811
    arguments: tuple[str, ...],
    said: str,
) -> None:
    code, out, err = run("client", *(text.replace("FOLDER", str(folder)) for text in arguments))
    assert (code, out) == (1, "")
    assert said in err
    code, out, _ = run("client", *(text.replace("FOLDER", str(folder)) for text in arguments), "--json")
    assert code == 1
    assert said in json.loads(out)["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("client", "approve", "lab"),
        ("client", "suspend", "lab", "--why", " "),
        ("client", "suspend", "lab", "--why", "two\nlines"),
        ("client", "token", "--why", "x", "--expires", "12"),
        ("client", "list", "--status", "new"),
        ("user", "revoke-grants", "ann"),
    ],
)
def test_a_change_without_a_reason_and_other_wrong_usage_is_exit_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2


def test_the_report_looks_at_approved_clients_of_the_registry_too(ask: Ask) -> None:
    def subjects() -> set[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.commands.report.REFUSED", 0)  # whatever it finds: whom does it look at?
            return {row["subject"] for row in ask("report")["rows"]}

    file = ask.folder / "metadata.json"  # type: ignore[attr-defined]
    file.write_text(json.dumps(metadata()))
    pending = ask("client", "register", str(file), *WHY)["client_id"]
    approved = ask("client", "register", str(file), *WHY, "--approved")["client_id"]
    found = subjects()
    assert any(approved in subject for subject in found)
    assert not any(pending in subject for subject in found)
