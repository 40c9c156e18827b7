"""securus audit prove | consistency | check-proof: proofs for those who have neither the store nor the log."""

import argparse
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from authz.storage.store import StoreUnavailable
from gateway.audit.heads import BadSeal, PublicKeys
from gateway.audit.keys import read_public_keys
from gateway.audit.merkle import ProofError
from gateway.audit.proofs import check_proof, prove_heads, prove_record
from gateway.audit.verification import AuditSource
from gateway.commands.answers import OK, add_verb, failed, say
from gateway.commands.audit_sources import add_source, with_source

Work = Callable[[AuditSource, PublicKeys], Awaitable[Mapping[str, object]]]


def add(log: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    verb = add_verb(log, "prove", "print a proof that a record is under a signed head", _prove)
    verb.add_argument("sequence", type=int, metavar="SEQ")
    verb.add_argument(
        "--chain", default="", metavar="NAME", help="the node's chain; without it the unnamed one"
    )
    verb.add_argument("--head", type=int, metavar="N", help="of this head, not the newest")
    add_source(verb)
    verb = add_verb(
        log, "consistency", "print a proof that a signed head goes on from an earlier one", _consistency
    )
    verb.add_argument("former", type=int, metavar="A")
    verb.add_argument("later", type=int, metavar="B")
    add_source(verb)
    said = "check a proof with the public key alone; exit 1 where it shows nothing"
    verb = add_verb(log, "check-proof", said, _check, configured=False)
    verb.add_argument("file", type=Path, metavar="FILE")
    verb.add_argument("--key", type=Path, required=True, metavar="FILE", help="a JWK Set, one JWK or PEM")


def _prove(options: argparse.Namespace) -> int:
    async def work(source: AuditSource, keys: PublicKeys) -> Mapping[str, object]:
        head = await _head(source, options.head)
        return await prove_record(source, keys, chain=options.chain, sequence=options.sequence, head=head)

    return _print(options, work)


def _consistency(options: argparse.Namespace) -> int:
    async def work(source: AuditSource, keys: PublicKeys) -> Mapping[str, object]:
        former, later = await _head(source, options.former), await _head(source, options.later)
        return await prove_heads(source, keys, former=former, head=later)

    return _print(options, work)


def _print(options: argparse.Namespace, work: Work) -> int:
    try:
        proof = with_source(options, work)
    except (ProofError, BadSeal) as error:
        return failed(options, str(error))
    say(options, proof, [json.dumps(proof, ensure_ascii=False)])
    return OK


def _check(options: argparse.Namespace) -> int:
    try:
        proof = json.loads(options.file.read_text(encoding="utf-8"))
        shown = check_proof(proof, read_public_keys(options.key))
    except (ProofError, BadSeal, ValueError) as error:
        return failed(options, f"the proof shows nothing: {error}")
    say(options, {"ok": True, "head": shown.head.number, "shows": shown.said}, [shown.said])
    return OK


async def _head(source: AuditSource, number: int | None) -> bytes:
    """A signed head by its number, the newest without one. Raises StoreUnavailable."""
    if number is not None:
        rows = await source.tree_heads(after=number - 1, limit=1)
        if rows and rows[0].number == number:
            return rows[0].head
        raise StoreUnavailable(f"there is no signed head {number}")
    newest, after = None, 0
    while rows := await source.tree_heads(after=after, limit=500):
        newest, after = rows[-1].head, rows[-1].number
    if newest is None:
        raise StoreUnavailable("there is no signed head yet")
    return newest
