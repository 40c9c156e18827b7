"""Apache with mod_oauth2: verifies the access token and the DPoP proof, and keeps each jti in its cache."""

import json
from pathlib import Path

from gateway.demo.client import Key

NEEDS = ("apache2",)
MODULES = Path("/usr/lib/apache2/modules")
OF_DEFAULT = "access token, DPoP proof; a cache of 1,000 entries, so that older proofs pass again; no nonce, policy, record"
OF_LARGE = "the same with a cache of 20,000 entries, which the window of proofs needs at this rate"


def is_here() -> bool:
    """Whether the module is installed (Debian: libapache2-mod-oauth2)."""
    return (MODULES / "mod_oauth2.so").exists()


def command(folder: Path, name: str, port: int, store: int, signer: Key, entries: int | None) -> list[str]:
    """The command of an Apache with one process of threads; entries is the size of the cache, None for the default."""
    home = folder / name
    home.mkdir()
    jwk = json.dumps(
        {**signer.public, "kid": signer.kid, "alg": "ES256", "use": "sig"}, separators=(",", ":")
    )
    cache = "" if entries is None else f"OAuth2Cache shm max_entries={entries}"
    loaded = "".join(
        f"LoadModule {each}_module {MODULES}/mod_{each}.so\n"
        for each in ("mpm_event", "authn_core", "authz_core", "authz_user", "proxy", "proxy_http", "oauth2")
    )
    conf = home / "httpd.conf"
    conf.write_text(
        f"""
ServerRoot {home}
PidFile {home}/httpd.pid
DefaultRuntimeDir {home}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
{loaded}
ErrorLog {home}/error.log
LogLevel error
StartServers 1
ServerLimit 1
ThreadsPerChild 32
MaxRequestWorkers 32
KeepAlive On
MaxKeepAliveRequests 0
{cache}
<Location />
  AuthType oauth2
  Require valid-user
  OAuth2AcceptTokenIn header type=DPoP
  OAuth2TokenVerify jwk {_quoted(jwk)} type=dpop&verify.iss=optional
  ProxyPass http://127.0.0.1:{store}/ max=32 keepalive=On
</Location>
"""
    )
    return ["apache2", "-DFOREGROUND", "-f", str(conf)]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'
