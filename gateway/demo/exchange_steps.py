"""Steps of the demonstration: documents between organisations, by the consents of those whom they are about."""

from typing import Any

from gateway.demo import exchange
from gateway.demo.client import Reply, Session
from gateway.demo.document_store import PATH as DOCUMENTS
from gateway.demo.stage import Stage, session_of, shown

_RESTRICTED = b"<title>SOCIAL HISTORY</title>"  # the section of Stephen's summary that is labelled so


async def exchange_flow(stage: Stage, facts: dict[str, Any]) -> None:
    """A partner hospital and a pharmacy retrieve documents, each what patients agreed to."""
    stage.title("Documents between organisations, by the patients' consents")
    filed = await _laboratory(stage, facts)
    async with session_of(facts, "exchange-mtls") as partner:
        token = await _own_token(partner)
        report = await partner.get(filed, token)
        stage.step(
            "A partner hospital reads that report, since the patient agreed",
            "Another organisation, another certificate, the same rules.",
            f"GET {filed}",
            f"{shown(report)}, {len(report.body)} bytes",
            right=report.status == 200 and b"HbA1c 6.3 %" in report.body,
        )
        whole = await partner.get(_url(facts, "stephen-summary", "url_mtls"), token)
        stage.step(
            "A partner hospital retrieves the summary of a patient who agreed",
            "The header of the document says whose it is and how confidential; the consent is asked for at that"
            " moment. The one section that is restricted is cut out on the way, in text and entries.",
            f"GET {_url(facts, 'stephen-summary', 'url_mtls')}",
            f"{shown(whole)}, {len(whole.body)} bytes, the restricted section"
            f" {'is there' if _RESTRICTED in whole.body else 'is not there'}",
            right=whole.status == 200
            and b"</ClinicalDocument>" in whole.body
            and _RESTRICTED not in whole.body,
        )
        for name, what, why in (
            ("antony-summary", "and of a patient who did not agree, nothing", "No answer means no."),
            (
                "stephen-restricted",
                "nor a document that is restricted as a whole",
                "The policy lets documents pass up to normal confidentiality, whatever the patient agreed to.",
            ),
        ):
            refused = await partner.get(_url(facts, name, "url_mtls"), token)
            stage.step(
                what,
                why,
                f"GET {_url(facts, name, 'url_mtls')}",
                shown(refused),
                right=refused.status == 404,
            )
    async with session_of(facts, "pharmacy-dpop") as pharmacy:
        token = await _own_token(pharmacy)
        medications = await pharmacy.get(_url(facts, "stephen-medications"), token)
        summary = await pharmacy.get(_url(facts, "stephen-summary"), token)
        stage.step(
            "A pharmacy fetches the list of medications that the patient agreed to share",
            "The consent names the pharmacy and this kind of document; the same patient's summary is not there for it.",
            f"GET {_url(facts, 'stephen-medications')}, then stephen-summary",
            f"{shown(medications)}, {len(medications.body)} bytes; then {shown(summary)}",
            right=medications.status == 200 and b"MEDICATIONS" in medications.body and summary.status == 404,
        )


async def _laboratory(stage: Stage, facts: dict[str, Any]) -> str:
    """A report is sent; where it can be read."""
    public, mtls = facts["cda_base"], facts["fhir_base_mtls"].removesuffix("/fhir/r4") + exchange.AT
    place = mtls + DOCUMENTS
    async with session_of(facts, "laboratory-mtls") as laboratory:
        token = await _own_token(laboratory)
        content = exchange.laboratory_report(exchange.LABORATORY)
        sent = await laboratory.file(place, token, content, "text/xml")
        stage.step(
            "A laboratory outside the hospital sends a report (mutual TLS)",
            "Whose it is, by whom and how confidential is read from the header of the document, and the document to its"
            " end, before the store has it.",
            f"POST {place}",
            f"{shown(sent)}, {sent.headers.get('location', '')}",
            right=sent.status == 201,
        )
        foreign = exchange.laboratory_report("2.16.840.1.113883.19.78")
        refused = await laboratory.file(place, token, foreign, "text/xml")
        stage.step(
            "A report in the name of another laboratory is refused",
            "And the sender is told why.",
            f"POST {place}",
            shown(refused),
            right=refused.status == 403,
        )
    return sent.headers.get("location", "").replace(public, mtls)


async def _own_token(app: Session) -> str:
    await app.discover()
    issued: Reply = await app.post(app.endpoint("token_endpoint"), {"grant_type": "client_credentials"})
    return str(issued.json.get("access_token", ""))


def _url(facts: dict[str, Any], name: str, member: str = "url") -> str:
    return next(str(each[member]) for each in facts["documents"] if each["url"].endswith(f"/{name}"))
