"""The documentation as a site."""

import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import ROOT


def build_site(folder: Path) -> Path:
    """Build the site in *folder*, which fails on any warning, and return the folder."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {"NO_MKDOCS_2_WARNING": "1", "PATH": str(Path(sys.executable).parent)}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert (finished.returncode, finished.stdout + finished.stderr) == (0, "")
    return folder
