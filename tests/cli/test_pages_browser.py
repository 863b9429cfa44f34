"""The pages in a real browser: they work, ask nothing of the network, and no name that a model holds runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from convscope.engine.pages import gallery
from convscope.engine.pages.template import render_page

from .browser import dom, driven, needs_chromium

pytestmark = needs_chromium

HOSTILE = [
    "</script><script>document.documentElement.dataset.pwned = 1; document.title = `pwned`</script>",
    "\"><img src=x onerror='document.documentElement.dataset.pwned = 1'>",
    "' onmouseover='document.documentElement.dataset.pwned = 1' autofocus onfocus='x()",
    "javascript:document.documentElement.dataset.pwned=1//",
    "<!--<script>",
    "\u202egnp.exe\u2066\u0000\u001b]0;x\u0007\u2028",
    "{{ 7*7 }} {% raw %} ${7*7}",
]


def _result(count: int = 6, layer: str = "block1_conv1") -> dict[str, object]:
    statuses = ["ok", "weak", "ok", "dead", "ok", "ok"]
    units = [
        {
            "unit": u,
            "file": f"unit_{u:04d}.png",
            "status": statuses[u % 6],
            "activation_start": 0.5,
            "activation_end": float((u * 7) % count) + 1,
            "history": [0.5, float(u), float((u * 7) % count) + 1],
        }
        for u in range(count)
    ]
    return {"model": "m.onnx", "layer": layer, "preset": "default", "size": 16, "steps": 2, "seed": 0, "units": units}


def _pictures(count: int = 6) -> dict[int, np.ndarray]:
    return {u: np.full((16, 16, 3), u / count, np.float32) for u in range(count)}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "index.html"
    starts = {2: np.zeros((16, 16, 3))}
    html = gallery.filters_page(
        _result(), _pictures(), starts=starts, command="convscope filters m.onnx -l block1_conv1 --seed 0"
    )
    path.write_text(html, encoding="utf-8")
    return path


def test_gallery_shows_every_unit_without_a_complaint(page: Path) -> None:
    html, console = dom(page)
    assert re.findall(r'href="#/unit/(\d+)"', html) == [str(u) for u in range(6)]
    assert "6 units" in html
    assert console == ""


def test_deep_link_opens_the_unit_with_start_curve_numbers_and_command(page: Path) -> None:
    html, console = dom(page, "#/unit/2")
    view = html[html.index('<dialog id="unit"') :]
    assert "Unit 2" in view[:600]
    assert 'alt="start picture"' in view
    assert "<polyline" in view
    assert "convscope filters m.onnx -l block1_conv1 --seed 0 --units 2" in view
    assert "<title>Unit 2 " in html
    assert console == ""


def test_sorting_searching_and_status_choose_the_tiles(page: Path) -> None:
    said = driven(
        page,
        """
        const shown = () => [...document.querySelectorAll("#wall a")].map((a) => a.hash.slice(7).split("?")[0]).join();
        const set = (id, value, event) => {
          const node = document.getElementById(id);
          node.value = value;
          node.dispatchEvent(new Event(event));
          return shown();
        };
        const chip = (s) => { document.querySelector(`[data-status=${s}]`).click(); return shown(); };
        return [
          set("sort", "activation", "change"), set("sort", "unit", "change"), set("find", "1-3,5", "input"),
          set("find", "4", "input"), set("find", "unit_0003", "input"), set("find", "", "input"),
          chip("dead"), chip("all"), shown(),
        ].join(" ");
        """,
    )
    assert said == "5,4,3,2,1,0 0,1,2,3,4,5 1,2,3,5 4 3 0,1,2,3,4,5 3 0,1,2,3,4,5 0,1,2,3,4,5"


def test_keys_move_open_close_and_search(page: Path) -> None:
    said = driven(
        page,
        """
        const key = (k) => dispatchEvent(new KeyboardEvent("keydown", { key: k, cancelable: true }));
        const out = [];
        key("ArrowRight"); out.push(document.activeElement.hash);
        key("ArrowRight"); out.push(document.activeElement.hash);
        key("/"); out.push(document.activeElement.id); document.activeElement.blur();
        key("?"); out.push(document.getElementById("keys").open); document.getElementById("keys").close();
        location.hash = "#/unit/4"; dispatchEvent(new HashChangeEvent("hashchange"));
        key("ArrowRight"); out.push(location.hash); dispatchEvent(new HashChangeEvent("hashchange"));
        key("ArrowRight"); out.push(location.hash);
        document.getElementById("unit").close();
        return out.join(" ");
        """,
    )
    assert said == "#/unit/0 #/unit/1 find true #/unit/5 #/unit/5"


def test_every_picture_and_button_has_a_name(page: Path) -> None:
    said = driven(
        page,
        """
        const unnamed = [...document.querySelectorAll("img")].filter((i) => !i.alt).length
          + [...document.querySelectorAll("button, a")].filter((b) => !(b.textContent.trim() || b.ariaLabel)).length
          + [...document.querySelectorAll("input, select")].filter((i) => !i.labels.length && !i.ariaLabel).length;
        return `${unnamed} ${document.documentElement.lang} ${document.querySelectorAll("h1").length}`;
        """,
        "#/unit/1",
    )
    assert said == "0 en 1"


def test_five_hundred_units_are_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(gallery.filters_page(_result(512), _pictures(512)), encoding="utf-8")
    html, console = dom(path, "#/unit/511")
    assert html.count('href="#/unit/') == 512
    assert "Unit 511" in html
    assert console == ""


def test_a_page_that_is_being_filled_reloads_and_shows_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    html = gallery.filters_page(_result(2), _pictures(2), waiting=[2, 3, 4], refresh=600)
    path.write_text(html, encoding="utf-8")
    assert '<meta http-equiv="refresh" content="600">' in html
    shown, console = dom(path)
    assert "2 of 5 done" in shown
    assert shown.count("to come") >= 3
    assert console == ""


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(tmp_path: Path, name: str) -> None:
    result = _result(1, layer=name)
    result["model"] = name
    result["units"] = [{**_result(1)["units"][0], "file": name, "status": name, "note": name}]  # type: ignore[index]
    path = tmp_path / "index.html"
    path.write_text(gallery.filters_page(result, _pictures(1), command=name), "utf-8", errors="replace")
    html, console = dom(path, "#/unit/0")
    assert "data-pwned" not in html[:200]
    assert "<title>pwned" not in html
    assert "Unit 0" in html
    body = html[html.index("<body") :]
    shown = re.sub(r"<script.*?</script>|<[^>]*>", "", body, flags=re.S)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", shown)
    assert console == ""


def test_hostile_titles_and_captions_stay_text_on_the_page_of_pictures(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3))
    items = [gallery.Item(n, image, image, n, {n: n}, [0.0, 1.0], [image], n) for n in HOSTILE]
    path = tmp_path / "index.html"
    html = gallery.pictures_page(HOSTILE[0], items, facts={HOSTILE[0]: HOSTILE[1]}, command=HOSTILE[2])
    path.write_text(html, "utf-8", errors="replace")
    shown, console = dom(path)
    assert "data-pwned" not in shown[:200]
    assert shown.count("<article") == len(HOSTILE)
    assert console == ""


def test_the_hostile_name_does_run_where_nothing_is_escaped(tmp_path: Path) -> None:
    """The control: without it, the tests above would pass for a name that never ran anywhere."""
    path = tmp_path / "control.html"
    path.write_text(f"<html><script>const data = {json.dumps(HOSTILE[0])}</script></html>", encoding="utf-8")
    assert "data-pwned" in dom(path)[0][:200]


def test_the_policy_stops_a_script_that_slips_through(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    html = render_page("base.html", title="t").replace(
        "</main>", "</main><script>document.documentElement.dataset.pwned = 1</script><img src=x onerror='x()'>"
    )
    path.write_text(html, encoding="utf-8")
    shown, console = dom(path)
    assert "data-pwned" not in shown[:200]
    assert "Content Security Policy" in console
