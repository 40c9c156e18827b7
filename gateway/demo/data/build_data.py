"""Makes patients.json.gz from Synthea transaction Bundles; run by hand, never imported.

usage: python gateway/demo/data/build_data.py FOLDER
Keeps six patients with the practitioners and organisations that they refer to; urn:uuid references become literal.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

PATIENTS = ("Antony_Anderson", "Gustavo_Mej", "Liz_Conn", "Luigi_Wiegand", "Ned_Hintz", "Stephen_McLaughlin")


def literal(value: Any, names: dict[str, str]) -> Any:
    """The value with every urn:uuid reference replaced by Type/id."""
    if isinstance(value, dict):
        return {k: names.get(v, v) if k == "reference" else literal(v, names) for k, v in value.items()}
    return [literal(item, names) for item in value] if isinstance(value, list) else value


def main(folder: Path, out: Path) -> None:
    """Write the resources as one JSON list, compressed."""
    entries: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith((*PATIENTS, "hospital", "practitioner")):
            for entry in json.loads(path.read_text(encoding="utf-8"))["entry"]:
                entries.setdefault(entry["fullUrl"], entry["resource"])
    names = {url: f"{r['resourceType']}/{r['id']}" for url, r in entries.items()}
    resources = [literal(resource, names) for resource in entries.values()]
    used = json.dumps([r for r in resources if r["resourceType"] not in ("Practitioner", "Organization")])
    kept = [
        r
        for r in resources
        if r["resourceType"] not in ("Practitioner", "Organization")
        or f"{r['resourceType']}/{r['id']}" in used
    ]
    content = json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()
    out.write_bytes(gzip.compress(content, 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("patients.json.gz"))
