"""What stands in deploy/ fits what the gateway does: ports, times, what may be written, and who may read it."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.config import document
from gateway.demo import world
from gateway.settings import GatewaySettings, Limits
from gateway.workers import supervisor

ROOT = Path(__file__).parents[2]
NGINX = (ROOT / "deploy" / "nginx.conf").read_text()
UNIT = (ROOT / "deploy" / "securus.service").read_text()


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT)
    return parser["Service"]


def behind_nginx(folder: Path) -> GatewaySettings:
    """A gateway with the listeners that nginx.conf asks for."""
    ports = world.Ports(*(world.free_port() for _ in range(4)))
    world.build(folder, ports)
    said = "\n".join(line[4:] for line in NGINX.splitlines() if line.startswith("#   "))
    keys: dict[str, Any] = yaml.safe_load(said)
    keys["listen"]["mtls"]["client_certificate_anchors"] = {"file": "ca.pem"}
    file = folder / "gateway.yaml"
    whole = yaml.safe_load(file.read_text())
    whole |= keys | {"listen": whole["listen"] | keys["listen"]}
    file.write_text(yaml.safe_dump(whole))
    return document.load(file, os.environ)


def test_nginx_asks_where_the_gateway_listens_and_takes_none_of_its_ports(tmp_path: Path) -> None:
    """nginx has its ports of every address: another server cannot listen there at 127.0.0.1."""
    settings = behind_nginx(tmp_path / "site")
    inner = {(each.address, each.port) for each in settings.listeners}
    asked = {(host, int(port)) for host, port in re.findall(r"server (127\.0\.0\.1):(\d+);", NGINX)}
    own = {int(port) for port in re.findall(r"^ *listen (\d+)", NGINX, re.M)}
    assert asked == inner
    assert not own & {port for _, port in inner}
    outer = {
        (name, int(port)) for port, name in re.findall(r"listen (\d+) ssl;\n *server_name ([a-z.]+);", NGINX)
    }
    assert outer == {
        (split.hostname, split.port or 443)
        for split in (urlsplit(each.origin) for each in settings.listeners)
    }


def test_systemd_waits_longer_than_a_drain_takes() -> None:
    assert int(unit()["TimeoutStopSec"]) > Limits().drain + supervisor._END_SECONDS


def test_what_is_written_is_of_the_gateway_alone_and_the_unit_says_where() -> None:
    service = unit()
    assert (service["UMask"], service["StateDirectoryMode"], service["LimitCORE"]) == ("0077", "0700", "0")
    assert service["ProtectSystem"] == "strict"
    said = "\n".join(line[4:] for line in UNIT.splitlines() if line.startswith("#   "))
    state = f"/var/lib/{service['StateDirectory']}/"
    keys = yaml.safe_load(said)
    assert keys["storage"]["path"].startswith(state)
    assert keys["keys"]["encryption_key"]["file"].startswith(state)


def test_a_store_that_is_away_for_long_does_not_keep_the_service_down() -> None:
    assert re.search(r"^StartLimitIntervalSec=0$", UNIT.partition("[Service]")[0], re.M)
    assert unit()["Restart"] == "always"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "securus.service"
    file.write_text(UNIT.replace("/opt/securus/.venv/bin/securus", "/bin/true"))
    found = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
