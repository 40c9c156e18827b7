"""HAProxy: verifies an ES256 bearer token at every request; it knows no DPoP."""

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.demo.client import Key

NEEDS = ("haproxy",)
LEAVES_OUT = "bearer token verified (ES256, not kept); no DPoP, claims, policy, record"


def command(folder: Path, name: str, port: int, store: int, signer: Key) -> list[str]:
    """The command of an HAProxy with one thread."""
    home = folder / name
    home.mkdir()
    pem = signer.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (home / "signer.pem").write_bytes(pem)
    conf = home / "haproxy.cfg"
    conf.write_text(
        f"""
global
  nbthread 1
  maxconn 2000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend door
  bind 127.0.0.1:{port}
  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
  http-request deny unless {{ var(txn.alg) -m str ES256 }}
  http-request deny unless {{ var(txn.bearer),jwt_verify(txn.alg,"{home}/signer.pem") -m int 1 }}
  default_backend store
backend store
  server store 127.0.0.1:{store} pool-max-conn 64
"""
    )
    return ["haproxy", "-db", "-f", str(conf)]
