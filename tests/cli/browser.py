"""A page in a real browser: Debian's Chromium, headless, offline."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
    "--window-size=1100,800",
]


def dom(page: Path, fragment: str = "") -> tuple[str, str]:
    """The document after its scripts ran, as HTML, and what the browser wrote to its console."""
    done = subprocess.run(
        [str(CHROMIUM), *_FLAGS, f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", page.as_uri() + fragment],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def driven(page: Path, script: str, fragment: str = "") -> str:
    """What ``script`` returns (a string) when it runs in the page, after the page's own scripts.

    The copy that is driven has no content security policy, since that forbids this very script.
    """
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    ending = (
        "<script>setTimeout(() => { let said; try { said = (() => {"
        + script
        + "})(); } catch (e) { said = 'threw ' + e; } "
        "document.documentElement.dataset.said = said; }, 300)</script></body>"
    )
    copy = page.with_name("driven.html")
    copy.write_text(html.replace("</body>", ending), encoding="utf-8")
    found = re.search(r'<html[^>]* data-said="([^"]*)"', dom(copy, fragment)[0])
    assert found, "the script did not run"
    return found.group(1)
