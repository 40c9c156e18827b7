"""What the officer's pages stand in, and a visit to one of them by somebody who may see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from authz.clock import Clock
from authz.events import Emit
from authz.login.accounts import Accounts
from authz.login.browser import Browser, Browsers
from authz.login.language import Language
from authz.protocol.request import Answer
from authz.settings import Account
from authz.storage.store import Store
from gateway.audit.index.follower import bases_of
from gateway.audit.log import AuditLog
from gateway.officer import rendering
from gateway.officer.looks import Looks
from gateway.policy.engine import Engine
from gateway.settings import GatewaySettings

FORM = "officer"
"""What the token of the forms here is about."""


@dataclass(frozen=True, slots=True)
class OfficerHouse:
    """The parts that the pages share. engine gives the policies in force; name that of a client."""

    settings: GatewaySettings
    store: Store
    audit: AuditLog
    accounts: Accounts
    browsers: Browsers
    engine: Callable[[], Engine | None]
    names: Callable[[], Mapping[str, str]]
    emit: Emit
    clock: Clock

    @property
    def looks(self) -> Looks:
        """Looks at the log, each recorded."""
        return Looks(self.store, self.audit)

    @property
    def bases(self) -> Mapping[str, str]:
        """The FHIR bases by name of their route."""
        return bases_of(self.settings)

    def shown(
        self,
        browser: Browser,
        language: Language,
        template: str,
        *,
        here: str,
        status: int = 200,
        **values: object,
    ) -> Answer:
        """A page for a browser; here is the path that its navigation marks, and that another language leads to."""
        authorization = self.settings.authorization
        answer = rendering.page(
            template,
            language,
            back=here or "/officer",
            status=status,
            organisation=authorization.organisation,
            here=here,
            form_token=browser.form_token(FORM),
            **values,
        )
        return answer if browser.cookie is None else answer.with_headers((("Set-Cookie", browser.cookie),))


@dataclass(frozen=True, slots=True)
class OfficerVisit:
    """A visit of an officer. Only OfficerPages makes one, once the account was found to be one of an officer.

    fields are those of the form, or of the address of a page that was opened.
    """

    browser: Browser
    account: Account
    language: Language
    fields: Mapping[str, str] = field(default_factory=dict)
