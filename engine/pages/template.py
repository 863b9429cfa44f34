r"""HTML pages that stand alone: one file, no request to anywhere, safe with any name that a model holds.

Three rules make hostile names harmless. Jinja escapes everything in the markup. Data for scripts goes in as
JSON inside ``<script type="application/json">`` by ``|tojson``, which writes ``<`` as ``\u003c``; scripts
read it back and set ``textContent`` only. A content security policy allows the page's own scripts by their
SHA-256 and nothing else, so that even a mistake in the first two would not run. A page is one template that
extends ``base.html``; the value ``data`` is what its script sees. What pages have in common (find, sort, keys, the
address, enlarged views, charts) is the kit: one script and one style, inlined into each.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import category

import jinja2
import numpy as np
from markupsafe import Markup

from ..render.artifacts import plain, to_pillow

TEMPLATES = Path(__file__).parent / "templates"
KIT = Path(__file__).parent / "kit"  # the script and the style that all pages share, the atlas's too
_NONE = "'none'"


def render_page(template: str, **data: Any) -> str:
    """The HTML text of a page.

    Args:
        template: file name in ``templates/``, for instance "filters.html".
        **data: variables of the template. ``title`` heads every page; ``data`` (optional, anything that
            `artifacts.to_json` takes) is what the page's script reads; ``command`` (optional) is the
            command line that made the page; ``refresh`` (optional) reloads it every so many seconds.
    """
    return _environment().get_template(template).render(**{k: plain(v) for k, v in data.items()})


def data_uri(image: np.ndarray, *, longest: int | None = None, format: str = "webp", quality: int = 85) -> str:
    """A picture as a ``data:`` URI to put into a page.

    Args:
        image: as for `artifacts.to_pillow`.
        longest: shrink so that no side is longer, in pixels; never enlarged.
        format: "webp", "jpeg" or "png".
        quality: of WebP and JPEG.
    """
    picture = to_pillow(image)
    if longest is not None:
        picture.thumbnail((longest, longest))
    buffer = io.BytesIO()
    picture.save(buffer, format=format.upper(), quality=quality)
    return f"data:image/{format};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _policy(*scripts: str) -> Markup:
    """The content security policy that allows exactly these inline scripts."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    return Markup(
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes or _NONE}; "
        "base-uri 'none'; form-action 'none'"
    )


def _visible(value: Any) -> Any:
    """Text with characters that are invisible or turn the text around written out, as ``visible`` in base.html."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if c in "\t\n" or category(c) not in ("Cc", "Cf", "Cs") else f"\\u{ord(c):04x}" for c in value)


@cache
def kit(name: str) -> Markup:
    """A file of the kit, as it stands in every page."""
    return Markup((KIT / name).read_text(encoding="utf-8"))


def _compact(obj: Any) -> str:
    """JSON without spaces: on a page of all units they would be a fifth of it."""
    return json.dumps(plain(obj), separators=(",", ":"), allow_nan=False)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_function"] = lambda obj, **_: _compact(obj)
    environment.globals["policy"] = _policy
    environment.globals["kit"] = kit
    return environment
