"""A PKCS#11 token in software (SoftHSM) for one process: its files in a folder of the tests, ended with them."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "pin-of-the-tests"
LABEL = "securus"
MISSING = "CI" not in os.environ and (shutil.which("softhsm2-util") is None or not MODULE.is_file())
"""Whether tests that need it are skipped here."""


@dataclass(frozen=True, slots=True)
class SoftToken:
    """A token in software. environment is what a process needs to find it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a process that uses it."""
        return {"SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}

    def hide(self) -> None:
        """Take the token away."""
        (self.folder / "tokens").rename(self.folder / "away")

    def show(self) -> None:
        """Bring it back."""
        (self.folder / "away").rename(self.folder / "tokens")


def make_token(folder: Path) -> SoftToken:
    """A new token labelled 'securus' in folder."""
    token = SoftToken(folder)
    (folder / "tokens").mkdir(parents=True)
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "567890"],
        check=True,
        capture_output=True,
        env=os.environ | token.environment,
    )
    return token
