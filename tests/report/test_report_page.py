"""The page in a browser: it needs nothing from outside, and what can be pressed works."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddit_eval.judging.paper_claims import Claim
from ddit_eval.report.blocks import (
    Bullets,
    Claims,
    Code,
    Folded,
    Heading,
    Picture,
    Table,
    Text,
    Viewer,
    to_markdown,
)
from ddit_eval.report.gallery import gallery
from ddit_eval.report.page import to_html
from ddit_eval.schema import Record
from tests.support.made_results import made_record

METHODS = ("base", "steps-12", "ddit-o3")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
CLAIM = Claim("Third differences make a better rule.", "not testable here", "No row <of order 1>.")


def records(folder: Path, side: int = 64) -> dict[str, list[Record]]:
    """Two prompts by three methods, each a picture of its own colour."""
    found: dict[str, list[Record]] = {}
    for m, method in enumerate(METHODS):
        for index, prompt in enumerate(("a red star", "a blue square")):
            path = folder / f"{method}-{index}.png"
            Image.fromarray(np.full((side, side, 3), (80 * m, 120 * index, 90), np.uint8)).save(path)
            made = made_record(index=index, prompt=prompt, image=str(path))
            found.setdefault(method, []).append(made)
    return found


def build(folder: Path, with_pictures: bool = True) -> Path:
    """A page with one of every block."""
    Image.new("RGB", (1400, 500)).save(folder / "plot.png", dpi=(200, 200))
    shown = gallery(records(folder), METHODS, {"ddit-o3": "1.25×, 29.0 dB"}) if with_pictures else None
    wide = Table(
        ["method", *(f"metric {i}" for i in range(20))], [["a-long-method-name"] + ["1.0 [0, 2]"] * 20]
    )
    blocks = [
        Text("DDiT is faster within 0.05 of the base. A baseline wins.", strong=True),
        Heading("Methods"),
        wide,
        Picture("plot.png", "A plot"),
        Viewer(shown, Picture("still.png", "stills")),
        Claims([CLAIM]),
        Folded("More", [Bullets(["x" * 200]), Code("model: mini-flux")]),
    ]
    page = folder / "report.html"
    page.write_text(to_html(blocks, "ddit-eval: test", folder), encoding="utf-8")
    return page


def test_markdown_and_page_are_made_of_the_same_blocks(tmp_path: Path) -> None:
    page = build(tmp_path).read_text()
    assert '<h1 class="verdict">DDiT is faster within 0.05 of the base.</h1>' in page
    assert '<p class="standing">A baseline wins.</p>' in page
    assert "No row &lt;of order 1&gt;." in page
    blocks = [Viewer(None, Picture("still.png", "stills")), Folded("More", [Text("t")]), Claims([CLAIM])]
    assert to_markdown(blocks) == (
        "![stills](still.png)\n\n- **not testable here**: Third differences make a better rule. "
        "No row <of order 1>.\n"
    )
    assert to_markdown([Viewer(None), Text("t")]) == "t\n"


def test_without_runs_the_page_says_so(tmp_path: Path) -> None:
    page = build(tmp_path, with_pictures=False).read_text()
    assert "The pictures are not here" in page
    assert gallery({}, METHODS, {}) is None


def test_pictures_are_small_and_small_ones_lossless(tmp_path: Path) -> None:
    shown = gallery(records(tmp_path), METHODS, {})
    assert shown is not None
    assert list(shown.pictures) == list(METHODS)
    assert not shown.scaled
    large = gallery(records(tmp_path, side=1024), METHODS, {})
    assert large is not None
    assert large.scaled
    assert max(len(uri) for same in large.pictures.values() for uri in same) < 100_000


def test_the_page_names_nothing_outside_itself(tmp_path: Path) -> None:
    page = build(tmp_path).read_text()
    outside = ('src="http', 'href="http', "url(", "@import", "<script src", "fetch(", "XMLHttpRequest")
    assert [word for word in outside if word in page] == []
    assert page.count("<script") == 1


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driven = webdriver.Chrome(options=options, service=Service(driver))
    yield driven
    driven.quit()


def clips(folder: Path) -> dict[str, list[Record]]:
    """Like `records`, but each a clip of three frames that get brighter."""
    found = records(folder)
    for same in found.values():
        for record in same:
            with Image.open(record.image) as first:
                frames = [first.convert("RGB").point(lambda v, n=n: v + 40 * n) for n in range(3)]
            frames[0].save(record.image, save_all=True, append_images=frames[1:], duration=100)
    clip = {"frames": 3, "fps": 10}
    return {method: [r.model_copy(update=clip) for r in same] for method, same in found.items()}


def test_clips_are_strips_of_their_frames(tmp_path: Path) -> None:
    shown = gallery(clips(tmp_path), METHODS, {})
    assert shown is not None
    assert (shown.frames, shown.fps) == (3, 10)
    strip = Image.open(BytesIO(base64.b64decode(shown.pictures["base"][0].split(",")[1])))
    assert strip.size == (64, 3 * 64)
    levels = [strip.getpixel((32, 32 + 64 * n))[0] for n in range(3)]
    assert levels == pytest.approx([0, 40, 80], abs=6)


@pytest.mark.timeout(600)
def test_clips_play_in_step(browser: Any, tmp_path: Path) -> None:
    page = to_html([Text("Clips."), Viewer(gallery(clips(tmp_path), METHODS, {}))], "clips", tmp_path)
    (tmp_path / "clips.html").write_text(page)
    browser.get((tmp_path / "clips.html").as_uri())
    shown = "return [...document.images].map(i => getComputedStyle(i).objectPosition)"
    play = browser.find_element("id", "play")
    seen = set()
    for _ in range(40):
        places = set(browser.execute_script(shown))
        assert len(places) == 1  # all at the same frame
        seen |= places
    assert len(seen) > 1
    play.click()
    assert play.text == "Play"
    still = browser.execute_script(shown)
    browser.execute_script(
        "const m = document.getElementById('moment'); m.value = 2; m.dispatchEvent(new Event('input'))"
    )
    assert set(browser.execute_script(shown)) == {"0px 100%"}
    assert set(still) <= {"0px 0%", "0px 50%", "0px 100%"}


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    browser.get_log("performance")  # what earlier pages sent
    browser.get(build(tmp_path_factory.mktemp("page")).as_uri())
    return browser


@pytest.mark.timeout(600)
def test_it_loads_without_errors_and_without_requests(opened: Any) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # The browser's own first tab is no part of the page; its pages are built into it.
    asked = [
        s["request"]["url"] for s in sent if not s["documentURL"].startswith(("chrome:", "chrome-untrusted:"))
    ]
    assert any(url.startswith("file://") and url.endswith("report.html") for url in asked)
    assert [url[:80] for url in asked if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in asked) == 1  # the page, and no file beside it
    assert [entry for entry in opened.get_log("browser") if entry["level"] == "SEVERE"] == []
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.alt)"
    assert opened.execute_script(broken) == []
    assert opened.execute_script("return [...document.images].every(i => i.alt)")


@pytest.mark.timeout(600)
def test_choosing_a_method_and_a_prompt_changes_the_picture(opened: Any) -> None:
    under = opened.find_element("id", "under")
    seen = {under.get_attribute("src")}
    for name, value in (("method", "2"), ("prompt", "1")):
        choose = "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
        opened.execute_script(f"{choose} s.dispatchEvent(new Event('change'))", name, value)
        seen.add(under.get_attribute("src"))
    assert len(seen) == 3
    assert under.get_attribute("alt") == "ddit-o3: a blue square"
    assert opened.find_element("id", "over").get_attribute("alt") == "base: a blue square"
    assert opened.find_element("id", "note").text == "1.25×, 29.0 dB"


@pytest.mark.timeout(600)
def test_the_slider_and_the_toggle_uncover_the_method(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    covered = "return getComputedStyle(document.getElementById('over')).clipPath"
    half = opened.execute_script(covered)
    buttons = opened.find_elements("css selector", ".viewer [data-split]")
    buttons[2].send_keys(Keys.ENTER)  # by keyboard, as a reader without a mouse does
    method = opened.execute_script(covered)
    buttons[0].send_keys(Keys.SPACE)
    base = opened.execute_script(covered)
    opened.find_element("id", "split").send_keys(Keys.ARROW_LEFT)
    assert len({half, method, base, opened.execute_script(covered)}) == 4
    assert buttons[0].get_attribute("aria-pressed") == "false"  # 99 %: neither one nor the other


@pytest.mark.timeout(600)
@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_until_its_button_is_pressed(opened: Any, system: str) -> None:
    from selenium.webdriver.common.keys import Keys

    media = {"features": [{"name": "prefers-color-scheme", "value": system}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    opened.execute_script("delete document.documentElement.dataset.theme")
    paper = "return getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(253, 253, 252)", "rgb(21, 23, 26)"
    assert opened.execute_script(paper) == (light if system == "light" else dark)
    button = opened.find_element("id", "theme")
    button.send_keys(Keys.ENTER)
    assert opened.execute_script(paper) == (dark if system == "light" else light)
    assert button.get_attribute("aria-pressed") == ("true" if system == "light" else "false")
    button.send_keys(Keys.ENTER)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("width", [400, 1280])
def test_only_tables_scroll_sideways(opened: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.execute_script("for (const fold of document.querySelectorAll('details')) fold.open = true")
    assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    box = "const t = document.querySelector('.scroll'); return t.scrollWidth > t.clientWidth"
    assert opened.execute_script(box)
