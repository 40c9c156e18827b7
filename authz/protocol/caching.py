"""How long an answer may be kept: Cache-Control of a response (RFC 9111 5.2)."""

import re

_DIRECTIVE = re.compile(r'\s*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)(?:=(?:([^\s",;]+)|"([^"\\]*)"))?\s*')


def max_age_of(cache_control: str | None) -> int | None:
    """Seconds for which an answer is fresh, 0 where it says that it never is, None where it does not say.

    A header that cannot be read says nothing. s-maxage is for caches that many share and is not ours.
    """
    found: dict[str, str] = {}
    for part in (cache_control or "").split(","):
        match = _DIRECTIVE.fullmatch(part)
        if match is None:
            return None
        found.setdefault(match[1].lower(), match[2] or match[3] or "")
    if "no-store" in found or "no-cache" in found:
        return 0
    said = found.get("max-age", "")
    return int(said) if re.fullmatch(r"[0-9]{1,10}", said) else None
