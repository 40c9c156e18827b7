"""A store whose versions of consents are counted, whoever writes them: FHIR, pages, grants that end."""

from collections.abc import Callable, Iterable
from typing import Any

from authz.storage.consents import ConsentVersion, Room
from authz.storage.store import Store
from gateway.settings import Upstream
from gateway.telemetry import Metrics


class _Counted:
    """What is not here is the store's."""

    def __init__(self, store: Store, count: Callable[[ConsentVersion], None]) -> None:
        self._store = store
        self._count = count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def add_consent(
        self, version: ConsentVersion, *, at_number: int | None = None, within: Room | None = None
    ) -> bool:
        """Write a version; one that was written is counted."""
        is_written = await self._store.add_consent(version, at_number=at_number, within=within)
        if is_written:
            self._count(version)
        return is_written


def counter(upstreams: Iterable[Upstream], metrics: Metrics) -> Callable[[ConsentVersion], None]:
    """What counts a version of a consent of these bases that was written, in `consents_written`."""
    routes = {each.identifier: each.name for each in upstreams}

    def count(version: ConsentVersion) -> None:
        metrics.consents_written.labels(routes.get(version.base, "other"), version.status).inc()

    return count


def counted(store: Store, upstreams: Iterable[Upstream], metrics: Metrics) -> Store:
    """The store, by which the versions of consents of these bases are counted."""
    whole: Any = _Counted(store, counter(upstreams, metrics))  # by __getattr__ it has every method of store
    told: Store = whole
    return told
