"""The engine of a policy set at this gateway, and the warnings about what the set wants and does not get here."""

import logging

from gateway.policies_folder import check_receivers
from gateway.policy import language
from gateway.policy.engine import Engine
from gateway.policy.reading.checks import not_valid
from gateway.policy.sources import uses
from gateway.settings import GatewaySettings

_log = logging.getLogger("securus.app")


def engine_of(policies: language.PolicySet, settings: GatewaySettings, *, now: int) -> Engine:
    """The engine that decides by these policies. Raises PoliciesRefused for a receiver that is not configured."""
    check_receivers(policies, settings.notifications)
    bases = frozenset(base for upstream in settings.upstreams for base in (*upstream.bases, upstream.base))
    if any(uses(rule)[1] for rule in policies.rules):
        for upstream in settings.upstreams:
            if upstream.consents is None:
                said = (
                    "policies ask for consents, of which this mount has no source: what needs them is refused"
                )
                _log.warning(said, extra={"route": upstream.name})
    for problem in not_valid(policies.every_rule, now):
        _log.warning("a policy is not valid now", extra={"cause": str(problem)})
    return Engine(policies, bases=bases, detail_types=settings.authorization.detail_types)
