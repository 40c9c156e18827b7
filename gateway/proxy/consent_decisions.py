"""POST Patient/[id]/$consent-decision: what the consents of a patient say, told to whom policies let ask.

The patient is read and judged first, as for every operation at an instance. Consents come from where policies have them,
and the audit record names those that answered.
"""

from functools import partial

from authz.protocol.request import Answer
from gateway.consents.decision_parameters import read_question, written_answer
from gateway.fhir import resource
from gateway.fhir.formats import BOTH
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import headers
from gateway.proxy.answers.delivery import fhir_answer
from gateway.proxy.large_bodies import by_length
from gateway.proxy.writes.write_verdicts import Write
from gateway.settings import Upstream

_RETRY = (("Retry-After", "5"),)


class ConsentDecisions:
    """The decisions of consents at one mount."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._bases = upstream.bases | {upstream.base}

    async def answer(self, write: Write) -> Answer:
        """The decision as Parameters. Raises FhirError: CONSENT_UNAVAILABLE where consents cannot be had."""
        http, patient, known = write.http, write.permit.request.id, write.trail.knowledge
        if patient is None:
            raise FhirError(Reason.INTERNAL)
        raw = await http.body.read(self._upstream.max_resource)
        if raw and not headers.is_json(http.headers.get("content-type", "")):
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"the body must be {BOTH} in UTF-8")
        asked = await by_length(len(raw), partial(resource.parse_resource, raw)) if raw else None
        question = read_question(asked, patient, self._bases)
        found = await known.said(patient, question)
        if found is None:
            raise FhirError(Reason.CONSENT_UNAVAILABLE, headers=_RETRY)
        write.trail.decision = "permit"
        return fhir_answer(resource.write_resource(written_answer(found)))
