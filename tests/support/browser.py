"""Opens pages in Chromium, where it is installed."""

import shutil
import subprocess
from tempfile import TemporaryDirectory

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def chromium(address):
    """Open a page, and return what Chromium printed: the document and its messages."""
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *flags.split(), "--disable-component-update", f"--user-data-dir={profile}"]
        return subprocess.run(
            [*command, "--enable-logging=stderr", "--v=0", "--dump-dom", address],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
