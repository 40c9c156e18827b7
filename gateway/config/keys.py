"""The section keys of gateway.yaml: algorithms and periods of the signing keys, and where they live."""

from dataclasses import replace

from authz.keys import KeyRingError, read_encryption_key
from authz.keys.making import ALGORITHMS
from authz.protocol.client_profiles import PROFILES
from authz.protocol.jose import OF_ID_TOKENS
from authz.settings import AuthorizationSettings
from gateway.config.schema import Section
from gateway.settings import KeySettings, Pkcs11Settings

_DAY = 86400
_CLOCKS_SECONDS = 60  # by so much the clocks of nodes and resource servers may differ
_IN_TOKENS = ("ES256", "PS256")


def read_key_periods(top: Section, settings: AuthorizationSettings) -> AuthorizationSettings:
    """The settings with what the section says about algorithms and periods."""
    keys = top.section("keys")
    if keys is None:
        return settings
    settings = replace(
        settings,
        signing_algorithms=_algorithms(keys),
        id_token_algorithms=_id_token_algorithms(keys, settings),
        key_announced_seconds=int(keys.seconds("announced_for", _DAY, low=60)),
        key_active_seconds=int(keys.seconds("active_for", 90 * _DAY, low=60)),
        key_published_after_retirement_seconds=int(
            keys.seconds("published_after_retirement", _DAY, low=60, high=400 * _DAY)
        ),
    )
    if settings.key_active_seconds <= settings.key_announced_seconds:
        keys.report(keys.node.place, "keys.active_for must be longer than keys.announced_for")
    needed = settings.lifetimes.access_token + _CLOCKS_SECONDS
    if settings.key_published_after_retirement_seconds < needed:
        keys.report(
            keys.place("published_after_retirement"),
            f"keys.published_after_retirement must be at least {needed} s: the lifetime of an access token and"
            f" {_CLOCKS_SECONDS} s for clocks that differ",
        )
    return settings


def _algorithms(keys: Section) -> tuple[str, ...]:
    if not keys.has("algorithms"):
        return (keys.word("algorithm", ALGORITHMS, "ES256"),)
    if keys.has("algorithm"):
        keys.report(keys.place("algorithm"), "'keys' must have one of 'algorithm' and 'algorithms'")
    found = keys.words("algorithms", ALGORITHMS)
    if not found:
        keys.report(keys.place("algorithms"), "keys.algorithms is empty, expected for example [ES256, PS256]")
    if len(set(found)) != len(found):
        keys.report(keys.place("algorithms"), "keys.algorithms names one twice")
    return tuple(dict.fromkeys(found)) or ("ES256",)


def _id_token_algorithms(keys: Section, settings: AuthorizationSettings) -> tuple[str, ...]:
    """RS256, for ID tokens of clients of SMART's profiles, of which one must be switched on."""
    if not keys.has("id_token_algorithms"):
        return ()
    found = tuple(dict.fromkeys(keys.words("id_token_algorithms", sorted(OF_ID_TOKENS))))
    if found and not any(PROFILES[name].id_token_algorithms for name in settings.profiles):
        keys.report(
            keys.place("id_token_algorithms"),
            f"keys.id_token_algorithms: {', '.join(found)} is for clients of SMART, and authorization.profiles switches on"
            " none of their profiles",
        )
    return found


def read_key_settings(top: Section) -> KeySettings:
    """Where the keys live and what seals them."""
    section = top.section("keys")
    if section is None:
        return KeySettings(top.folder / "state/key-encryption.key")
    section.known(
        "encryption_key", "other_encryption_key", "algorithm", "algorithms", "announced_for", "active_for",
        "published_after_retirement", "pkcs11", "id_token_algorithms",
    )  # fmt: skip
    settings = KeySettings(None, other_encryption_key=_other(section), pkcs11=_pkcs11(section))
    inner = section.section("encryption_key", required=True)
    if inner is None:
        return settings
    if inner.has("file") and not inner.has("env"):
        # Made at first start: the file need not exist.
        return replace(settings, encryption_key_file=section.file("encryption_key", must_exist=False))
    return replace(settings, encryption_key=_encryption_key(section, "encryption_key"))


def _other(section: Section) -> bytes | None:
    return _encryption_key(section, "other_encryption_key") if section.has("other_encryption_key") else None


def _encryption_key(section: Section, key: str) -> bytes | None:
    text = section.secret(key)
    if text is None:
        return None
    try:
        return read_encryption_key(text, f"keys.{key}")
    except KeyRingError as error:
        section.report(section.place(key), str(error))
        return None


def _pkcs11(section: Section) -> Pkcs11Settings | None:
    inner = section.section("pkcs11")
    if inner is None:
        return None
    inner.known("module", "token", "pin", "label")
    module = inner.path_of("module")
    if inner.has("module") and not module.is_file():
        inner.report(inner.place("module"), f"keys.pkcs11.module: there is no file '{module}'")
    for key in ("algorithm", "algorithms"):
        if "EdDSA" in (section.texts(key) if key == "algorithms" else (section.text(key, "ES256"),)):
            said = f"keys in a PKCS#11 token are for {' or '.join(_IN_TOKENS)}"
            section.report(section.place(key), said)
    return Pkcs11Settings(
        module=module,
        token=inner.text("token", expected="the label of the token"),
        pin=inner.secret("pin") or "",
        label=inner.text("label", "securus"),
    )
