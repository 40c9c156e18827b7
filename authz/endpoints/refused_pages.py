"""What is told of a page that refused somebody: a line in the log and a number, and no record in the audit log."""

import logging

from authz.events import Emit, PageRefused
from authz.protocol.request import HttpRequest

_log = logging.getLogger("securus.pages")


def tell_refusal(emit: Emit, request: HttpRequest, said: str, *, status: int, cause: str = "") -> None:
    """Tell that a page says this to the person instead of what was asked for.

    said names its text in the catalogues. cause is for the log, where the name does not say what was wrong: no client
    hears of it, and the person may only say that it does not work.
    """
    told = {"cause": cause or said, "status": status, "endpoint": request.path, "peer": request.peer}
    _log.info("a page was refused", extra=told)
    emit(PageRefused(request.path, said))
