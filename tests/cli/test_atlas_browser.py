"""The atlas's page in real browsers, from file://: it holds any number of units, and no name of a model runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from .driver import CHROMIUM, FIREFOX, Chromium, Firefox
from .large_atlas import write_atlas, write_status
from .test_pages_browser import HOSTILE

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
UNITS = 100_000
MOST_NODES, MOST_REQUESTS = 500, 10


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    found = Chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("large")
    write_atlas(folder, UNITS)
    return (folder / "index.html").as_uri()


@pytest.fixture
def small(tmp_path: Path) -> str:
    write_atlas(tmp_path, 300, labels=["bald eagle", "ladybug"])
    return (tmp_path / "index.html").as_uri()


def _tiles(browser: Chromium) -> str:
    """The units on the page, in order of their places."""
    return str(
        browser.run(
            "return [...document.querySelectorAll('.tile')].sort((a, b) => a.dataset.at - b.dataset.at)"
            ".map((a) => a.hash.split('/')[2]).join()"
        )
    )


def test_a_hundred_thousand_units_need_few_nodes_and_few_files(browser: Chromium, large: str) -> None:
    browser.open(f"{large}#/L0000")
    seen = set()
    for jump in range(8):
        browser.run(
            f"scrollTo(0, document.documentElement.scrollHeight * {jump} / 7);"
            "for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);"
        )
        assert browser.run("return document.querySelectorAll('*').length") < MOST_NODES
        seen.add(_tiles(browser).split(",")[-1])
    assert len(seen) == 8
    assert str(UNITS - 1) in seen
    browser.open(f"{large}#/L0000")
    assert len(browser.requests) < MOST_REQUESTS
    folder = large.rsplit("/", 1)[0]
    assert all(url.startswith((folder, "data:")) for url in browser.requests)
    assert browser.complaints == []


def test_a_deep_link_opens_the_unit_by_layer_number_and_by_name(browser: Chromium, large: str) -> None:
    for address in (f"{large}#/L0000/99999", f"{large}#/conv/99999"):
        browser.open(address)
        assert browser.run("return document.querySelector('h1').innerText") == "conv, unit 99999"
        assert "unit 99999" in browser.run("return document.title")
    browser.open(f"{large}#/conv/100000")
    assert "There is no '100000'" in browser.run("return document.querySelector('main').innerText")


@pytest.mark.skipif(FIREFOX is None, reason="firefox-esr is not installed")
def test_firefox_shows_the_same_from_the_disk(large: str, tmp_path: Path) -> None:
    browser = Firefox(tmp_path)
    try:
        browser.open(f"{large}#/L0000")
        assert browser.run("return document.querySelectorAll('*').length") < MOST_NODES
        assert "url(" in browser.run("return getComputedStyle(document.querySelector('.tile i')).backgroundImage")
        browser.open(f"{large}#/conv/13")
        assert browser.run("return document.querySelector('h1').innerText") == "conv, unit 13"
        assert (
            browser.run("const i = document.querySelector('img.picture'); await i.decode(); return i.naturalWidth") > 0
        )
    finally:
        browser.close()


def test_hostile_names_are_text_in_every_view(browser: Chromium, tmp_path: Path) -> None:
    for number, name in enumerate(HOSTILE):
        folder = tmp_path / str(number)
        write_atlas(folder, 20, name, labels=[name])
        for view in ("#/", "#/L0000", "#/L0000/0", "#/L0000/12"):
            browser.open((folder / "index.html").as_uri() + view)
            assert browser.run("return document.documentElement.dataset.pwned === undefined") is True
            text = browser.run("return document.body.innerText + document.title")
            assert not set(text) & set("\u202e\u2066\u2028\u0000\u0007")
            assert (
                browser.run("return document.querySelectorAll('main script, main iframe, [onerror], [onload]').length")
                == 0
            )
    assert browser.complaints == []


def test_sorting_finding_and_status_choose_the_units(browser: Chromium, small: str) -> None:
    browser.open(f"{small}#/L0000")
    browser.run(
        "window.choose = (node, value, event) => { node.value = value; node.dispatchEvent(new Event(event)); };"
        "choose(document.querySelector('main input'), '3-5,12', 'input')"
    )
    assert _tiles(browser) == "3,4,5,12"
    browser.run("choose(document.querySelector('main select'), 'act', 'change')")
    assert _tiles(browser) == "3,4,5,12"  # by 0.757, 0.676, 0.595 and 0.028
    browser.run("document.querySelector('[aria-label^=turn]').click()")
    assert _tiles(browser) == "12,5,4,3"
    browser.run("choose(document.querySelector('main input'), 'eagle', 'input')")
    assert _tiles(browser) == "0"
    browser.run(
        "choose(document.querySelector('main input'), '', 'input');document.querySelector('[data-status=dead]').click()"
    )
    assert all(int(u) % 10 == 1 for u in _tiles(browser).split(","))


def test_a_coarse_picture_is_weak_so_far_and_a_fine_one_weak(browser: Chromium, tmp_path: Path) -> None:
    write_atlas(tmp_path, 40, coarse=True)
    page = (tmp_path / "index.html").as_uri()
    browser.open(f"{page}#/L0000?show=weak")
    assert _tiles(browser) == "0,20"
    browser.open(f"{page}#/L0000?show=sofar")
    assert _tiles(browser) == "10,30"
    assert "weak so far" in browser.run("return document.querySelector('.tile').getAttribute('aria-label')")
    browser.open(f"{page}#/")
    assert "2 weak, 2 weak so far" in browser.run("return document.querySelector('main').innerText")
    browser.open(f"{page}#/L0000/10")
    assert browser.run("return document.querySelector('.badge').innerText") == "weak so far"


def test_what_is_not_found_yet_is_not_shown_as_nothing(browser: Chromium, tmp_path: Path) -> None:
    write_atlas(tmp_path, 20, told=False)
    browser.open((tmp_path / "index.html").as_uri() + "#/L0000/0")
    text = browser.run("return document.querySelector('main').innerText")
    assert "Where in them it is excited is not found yet" in text
    assert "Nothing in this atlas" not in text
    assert browser.complaints == []


def test_a_unit_that_no_photograph_changes_has_no_best_ones(browser: Chromium, small: str) -> None:
    browser.open(f"{small}#/L0000/1")
    text = browser.run("return document.querySelector('main').innerText")
    assert "None stands out: it is 0.919 everywhere in each of them." in text
    assert "Nothing was found that excites it, by strongest" in text
    assert browser.run("return document.querySelectorAll('.crop').length") == 0
    browser.open(f"{small}#/L0000/3")
    assert "What excites it, by strongest" in browser.run("return document.querySelector('main').innerText")
    assert browser.run("return document.querySelectorAll('.crop').length") == 1


def test_units_that_are_not_made_are_asked_no_picture_of(browser: Chromium, tmp_path: Path) -> None:
    write_atlas(tmp_path, 20, drawn=False)
    browser.open((tmp_path / "index.html").as_uri() + "#/L0000/0")
    assert browser.run("return document.querySelectorAll('.kin .sprite.none').length") == 1
    assert browser.complaints == []


def test_a_class_s_name_is_whole_and_its_number_shown_where_one_sorts_by_it(browser: Chromium, small: str) -> None:
    words = "return [...document.querySelectorAll('.tile b')].map((b) => [b.innerText, b.dataset.value])"
    browser.open(f"{small}#/L0000?find=3-4,0")
    assert browser.run(words) == [["bald eagle", "weak"], ["3", "0.757"], ["4", "0.676"]]
    write_atlas(Path(small.removeprefix("file://")).parent, 6, labels=[f"class {u}" for u in range(6)])
    browser.open(f"{small}#/L0000?find=3")
    assert browser.run(words) == [["class 3", ""]]
    browser.open(f"{small}#/L0000?find=3&sort=act")
    assert browser.run(words) == [["class 3", "0.757"]]


@pytest.mark.parametrize("name", ["/features/features.0/Conv", "a/b/1", "layer 'one'/\u00e9?x=1#y", "L0003"])
def test_a_layer_is_reached_by_a_name_with_slashes(browser: Chromium, tmp_path: Path, name: str) -> None:
    write_atlas(tmp_path, 20, name)
    page = (tmp_path / "index.html").as_uri()
    for escaped in (quote(name), quote(name, safe="")):
        browser.open(f"{page}#/{escaped}/7")
        assert browser.run("return document.querySelector('h1').innerText") == f"{name}, unit 7"
        browser.open(f"{page}#/{escaped}")
        assert browser.run("return document.querySelector('h1').innerText") == name


def test_everything_is_reached_by_keys_alone(browser: Chromium, small: str) -> None:
    browser.open(f"{small}#/")
    browser.key("g")
    for letter in "conv/7":
        browser.key(letter)
    browser.key("Enter")
    browser.wait("location.hash === '#/L0000/7' && document.documentElement.dataset.shown === location.hash")
    browser.key("ArrowRight")
    browser.wait("document.documentElement.dataset.shown === '#/L0000/8'")
    browser.key("t")
    assert browser.run("return document.querySelector('[aria-keyshortcuts=t]').ariaPressed") == "true"
    browser.key("t")
    browser.key("Escape")
    browser.wait("document.documentElement.dataset.shown === '#/L0000'")
    assert browser.run("return document.activeElement.hash") == "#/L0000/8"
    browser.key("ArrowRight")
    browser.key("ArrowDown")
    columns = browser.run(
        "const tops = [...document.querySelectorAll('.tile')].map((t) => t.getBoundingClientRect().top);"
        "return tops.filter((top) => top === Math.min(...tops)).length"
    )
    assert browser.run("return document.activeElement.hash") == f"#/L0000/{9 + columns}"
    browser.key("Enter")
    browser.wait(f"document.documentElement.dataset.shown === '#/L0000/{9 + columns}'")
    browser.key("Escape")
    browser.wait("document.documentElement.dataset.shown === '#/L0000'")
    browser.key("/")
    assert browser.run("return document.activeElement.id") == "find"
    browser.key("Escape")
    browser.key("?")
    assert browser.run("return document.getElementById('keys').open") is True
    browser.key("Escape")
    browser.key("Escape")
    browser.wait("document.documentElement.dataset.shown === '#/'")
    assert browser.complaints == []


def test_back_returns_to_the_same_place_of_the_layer(browser: Chromium, large: str) -> None:
    browser.open(f"{large}#/L0000")
    browser.run(
        "scrollTo(0, 500000); await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame);"
    )
    place = browser.run("return scrollY")
    browser.run("location.hash = '#/L0000/12'")
    browser.wait("document.documentElement.dataset.shown === '#/L0000/12'")
    browser.run("history.back()")
    browser.wait("document.documentElement.dataset.shown === '#/L0000'")
    assert (
        abs(browser.run("return scrollY") - place) < 200
        or browser.run("return document.activeElement.hash") == "#/L0000/12"
    )


@pytest.mark.parametrize("view", ["#/", "#/L0000", "#/L0000/12"])
def test_every_picture_and_control_has_a_name(browser: Chromium, small: str, view: str) -> None:
    browser.open(small + view)
    unnamed = browser.run(
        "return [...document.querySelectorAll('img')].filter((i) => !i.alt)"
        ".concat([...document.querySelectorAll('main [role=img]')].filter((i) => !i.getAttribute('aria-label')))"
        ".concat([...document.querySelectorAll('button, a')].filter((b) => !(b.textContent.trim() || b.ariaLabel)))"
        ".concat([...document.querySelectorAll('input, select')].filter((i) => !i.labels.length && !i.ariaLabel))"
        ".map((node) => node.outerHTML.slice(0, 120))"
    )
    assert unnamed == []
    assert browser.run("return document.querySelectorAll('h1').length") == 1


def test_a_narrow_window_scrolls_in_one_direction_only(small: str, tmp_path: Path) -> None:
    narrow = Chromium(tmp_path / "narrow", (420, 800))
    try:
        for view in ("#/", "#/L0000", "#/L0000/12"):
            narrow.open(small + view)
            assert narrow.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    finally:
        narrow.close()


def test_blocks_of_the_graph_unfold_and_a_box_leads_to_its_layer(browser: Chromium, small: str) -> None:
    browser.open(f"{small}#/")
    assert (
        browser.run("return [...document.querySelectorAll('.node b')].map((b) => b.innerText).join()")
        == "picture,conv,b.0"
    )
    browser.run("document.querySelector('button.node').click()")
    names = browser.run("return [...document.querySelectorAll('.node b')].map((b) => b.innerText).join()")
    assert names == "picture,conv,b.0.x,b.0.y"
    assert browser.run("return document.querySelectorAll('.drawing path').length") == 4
    browser.run("document.querySelector('a.node').click()")
    browser.wait("document.documentElement.dataset.shown === '#/L0000'")


def test_the_address_of_a_layer_holds_what_is_found_and_how_it_is_sorted(browser: Chromium, small: str) -> None:
    browser.open(f"{small}#/L0000?find=3-5%2C12&sort=-act")
    assert _tiles(browser) == "12,5,4,3"
    browser.run(
        "const find = document.getElementById('find'); find.value = '12'; find.dispatchEvent(new Event('input'))"
    )
    assert browser.run("return location.hash") == "#/L0000?find=12&sort=-act"


def test_a_unit_shows_its_other_pictures_and_which_of_them_inhibit_it(browser: Chromium, small: str) -> None:
    browser.open(f"{small}#/L0000/3")
    said = browser.run("return [...document.querySelectorAll('.others b')].map((b) => b.innerText).join('; ')")
    assert said == "What inhibits it, by conv; By conv"
    loaded = "return [...document.querySelectorAll('.others img')].every((i) => i.alt && i.src)"
    assert browser.run(loaded) is True


@pytest.mark.parametrize("kind", [Chromium, Firefox])
def test_a_page_whose_atlas_is_being_made_looks_again_by_itself(
    kind: type[Chromium] | type[Firefox], tmp_path: Path
) -> None:
    if kind is Firefox and FIREFOX is None:
        pytest.skip("firefox-esr is not installed")
    folder = tmp_path / "atlas"
    write_atlas(folder, 60)
    running = {"running": True, "stage": "fine", "unit": "units", "done": 12, "total": 60, "rate": 2.0}
    write_status(folder, {**running, "seconds_left": 24, "at": time.time()})
    opened = kind(tmp_path)
    try:
        opened.open((folder / "index.html").as_uri())
        opened.wait("!document.getElementById('status').hidden")
        assert "fine, 12 of 60 units, about 24 s left" in opened.run(
            "return document.getElementById('status').innerText"
        )
        manifest = folder / "d" / "manifest.js"
        text = manifest.read_text()
        manifest.write_text(text.replace('"counts":{"units":60,"ok":42', '"counts":{"units":60,"ok":48'))
        assert manifest.read_text() != text
        write_status(folder, {"running": False})
        opened.wait("document.querySelector('main').innerText.includes('48 ok')")
        assert opened.run("return document.getElementById('status').hidden") is True
    finally:
        opened.close()


def test_no_view_shows_an_object_or_a_missing_value(browser: Chromium, small: str) -> None:
    for view in ("#/", "#/L0000", "#/L0000/3", "#/L0000/2", "#/L0000/1", "#/nothing"):
        browser.open(small + view)
        said = browser.run("return document.body.innerText")
        assert not [word for word in ("[object", "undefined", "NaN", "null") if word in said], view
