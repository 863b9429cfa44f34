"""What an atlas's folder holds: how far the work is, whether every file is what it was, and its page made anew."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError
from . import units
from .compile import MANIFEST, compile_atlas, listed
from .files import Files, is_inside
from .leases import leased
from .numbers import chunk_name
from .plan import COARSE, FILE, FINE, Plan, unit_id
from .progress import SCRIPT, running
from .rendering import failures


def status(files: Files) -> dict[str, Any]:
    """Counts of what is done, by layer and in all, and what failed with the reason.

    Raises:
        UsageError: the folder holds no atlas.
    """
    plan = Plan.read(files)
    there = units.kept(files)
    rows: list[dict[str, Any]] = []
    for planned in plan.layers:
        ids = {
            stage: [unit_id(planned.recipes[stage], u) in there for u in range(planned.units)]
            for stage in (COARSE, FINE)
        }
        either = [a or b for a, b in zip(ids[COARSE], ids[FINE], strict=True)]
        rows.append(
            {
                "name": planned.layer.name,
                "units": planned.units,
                "fine": sum(ids[FINE]),
                "coarse": sum(either) - sum(ids[FINE]),
                "missing": planned.units - sum(either),
            }
        )
    variants = [
        {
            **variant,
            "units": sum(unit_id(p.recipes[stage], u) in there for p in plan.layers for u in range(p.units)),
        }
        for stage, variant in plan.variants.items()
    ]
    measured = sum(len(chunk) for chunk in plan.chunks() if files.has(chunk_name(plan, chunk)))
    totals = {key: sum(row[key] for row in rows) for key in ("units", "fine", "coarse", "missing")}
    return {
        "model": plan.model["name"],
        "graph_sha256": plan.model["sha256"],
        "photographs": {"all": len(plan.photographs), "measured": measured},
        **totals,
        "variants": variants,
        "layers": rows,
        "failed": failures(files),
        "at_work": leased(files),
        "runs": running(files),
        "page": files.has("index.html"),
    }


def verified(files: Files) -> dict[str, Any]:
    """Every file of the list against its sum: names of those missing, changed, and of the page but not listed.

    Raises:
        UsageError: the folder holds no list of an atlas.
    """
    try:
        wanted = listed(files)
    except FileNotFoundError:
        raise UsageError(
            f"{files.place} holds no page of an atlas; write it: convscope atlas compile {files.place}"
        ) from None
    except ValueError:
        raise UsageError(
            f"{files.place}/{MANIFEST} is damaged; write it: convscope atlas compile {files.place}"
        ) from None
    missing, changed = [], []
    for name, (size, total) in wanted.items():
        try:
            data = files.read(name) if is_inside(name) else b""
        except FileNotFoundError:
            missing.append(name)
            continue
        if len(data) != size or hashlib.sha256(data).hexdigest() != total:
            changed.append(name)
    ours = {name for folder in ("d", "s", "u", "p") for name in files.names(folder)}
    return {
        "files": len(wanted),
        "bytes": sum(size for size, _ in wanted.values()),
        "missing": missing,
        "changed": changed,
        "unlisted": sorted(ours - set(wanted) - {SCRIPT}),
    }


def compiled(files: Files) -> dict[str, Any]:
    """Writes the page of what the store holds; returns its counts.

    Raises:
        UsageError: the folder holds no atlas, or its photographs are not all measured.
    """
    counts = compile_atlas(files, Plan.read(files))
    files.tidy()
    return counts


def page_address(files: Files) -> str:
    """The address of the page for a browser.

    Raises:
        UsageError: the folder holds no atlas, or no page yet.
    """
    Plan.read(files)
    if not files.has("index.html"):
        raise UsageError(f"{files.place} has a {FILE} but no page yet; write it: convscope atlas compile {files.place}")
    if "://" in files.place:
        return files.place.rstrip("/") + "/index.html"
    return (Path(files.place) / "index.html").resolve().as_uri()


def status_in_words(found: Mapping[str, Any]) -> list[str]:
    """What `status` says, a line each."""
    pictures = found["photographs"]
    lines = [f"{found['model']}: {pictures['measured']} of {pictures['all']} photographs measured"]
    lines += [f"{r['name']}: {r['units']} units, {r['coarse']} coarse, {r['fine']} fine" for r in found["layers"]]
    lines.append(f"{found['units']} units: {found['coarse']} coarse, {found['fine']} fine, {found['missing']} not made")
    lines += [f"{variant_in_words(row)}: {row['units']} units" for row in found["variants"]]
    for row in found["runs"]:
        left = row["seconds_left"]
        rest = "" if left is None else f", about {duration_in_words(left)} left"
        rate = f"{row['rate']} {row['unit']} a second{rest}"
        lines.append(f"running: {row['stage']}, {row['done']} of {row['total']}, {rate}")
    if found["at_work"]:
        lines.append(f"in somebody's hands: {found['at_work']} pieces of work")
    for row in found["failed"]:
        lines.append(f"failed: {len(row['units'])} units of {row['name']} ({row['stage']}): {row['reason']}")
    return lines


def verified_in_words(found: Mapping[str, Any]) -> list[str]:
    """What `verified` says: a line for each file that is not as it should be, then the verdict."""
    lines = [f"{kind}  {name}" for kind in ("missing", "changed", "unlisted") for name in found[kind]]
    verdict = "DAMAGED" if found["missing"] or found["changed"] else "ok"
    return [*lines, f"{verdict}: {found['files']} files, {found['bytes']:,} bytes"]


def variant_in_words(row: Mapping[str, Any]) -> str:
    """``variant lucid, negative``."""
    return f"variant {row['preset']}{', negative' if row['negative'] else ''}"


def duration_in_words(seconds: float) -> str:
    """``2.5 hours``, ``12.0 minutes`` or ``40 seconds``."""
    for size, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"
