"""The report as a browser shows it: light and dark, on a phone and on a desk."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from telepath.config import load
from telepath.evaluation.evidence import Evidence, Film
from telepath.evaluation.report import write_report
from tests.conftest import lacking

COMMITTED = Path(__file__).resolve().parents[2] / "reports" / "index.html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # a container's root has no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (400, 1400)
SCHEMES = ("light", "dark")
READABLE = 4.5
"""Contrast of text that WCAG 2 asks for at level AA."""

UNREADABLE = """
const channels = colour => colour.match(/[\\d.]+/g).map(Number);
const luminance = colour => channels(colour).slice(0, 3)
  .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = node => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor, parts = channels(colour);
    if (parts.length < 4 || parts[3] === 1) return colour;
  }
  return "rgb(255, 255, 255)";
};
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), node = walker.currentNode.parentElement;
  if (!text) continue;
  const [low, high] = [getComputedStyle(node).color, ground(node)].map(luminance).sort((a, b) => a - b);
  const contrast = (high + 0.05) / (low + 0.05);
  if (contrast < arguments[0]) found.push(`${contrast.toFixed(1)}: ${text.slice(0, 40)}`);
}
return found;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A headless Chromium that keeps what the console says and what is requested."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        lacking("no Chromium with its driver; on Debian: `apt install chromium chromium-driver`")
    options = ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    with Chrome(options, Service(driver)) as browser:
        yield browser


@pytest.fixture(scope="module")
def made(make_evidence: Callable[..., Evidence], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of made-up evidence, with a film."""
    folder, params = tmp_path_factory.mktemp("report"), load()
    (folder / "film").mkdir()
    frames = [Image.new("RGB", (728, 246), colour) for colour in ("navy", "teal")]
    frames[0].save(folder / "film" / "film.gif", save_all=True, append_images=frames[1:])
    evidence = make_evidence(divergence=0.7)
    film = Film("", ["source", "zero_shot", "telepath", "oracle"], 4, 7.98, None)
    gap = params.gap.model_copy(update={"mass": 1.5, "observation_noise": 0.1})
    write_report(evidence._replace(film=film), params.model_copy(update={"gap": gap}), folder)
    return folder / "index.html"


@pytest.fixture(params=["committed", "made"])
def page(request: pytest.FixtureRequest) -> Path:
    """The report that is committed, and one of made-up evidence."""
    return COMMITTED if request.param == "committed" else request.getfixturevalue("made")


def show(browser: Chrome, page: Path, width: int, scheme: str) -> None:
    """Open a page in a window of ``width`` CSS pixels; the logs begin anew."""
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    # Headless windows have a least width; an emulated screen has none.
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    browser.get(page.as_uri())


def requested(browser: Chrome) -> set[str]:
    """Addresses that were fetched since ``show``."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_shows_it(browser: Chrome, page: Path, width: int, scheme: str) -> None:
    show(browser, page, width, scheme)
    run: Callable[..., Any] = browser.execute_script
    assert run("return innerWidth") == width
    dark = run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c < 64)")
    assert dark == (scheme == "dark")
    pictures = run(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.getBoundingClientRect().width])"
    )
    shown = re.findall(r"<img ", page.read_text(encoding="utf-8"))
    assert len(pictures) == len(shown) > 7
    for complete, natural, across in pictures:
        assert complete
        assert natural > 1
        # Words in figures and film are a hundredth as high as these are wide, or a little more.
        assert across > (550 if natural >= 700 else 0.85 * min(width, natural))
    # A table or figure may be wider and is then moved within its own frame; the page is not.
    assert run("return document.documentElement.scrollWidth") <= width
    beyond = run(
        "return [...document.querySelectorAll('main > *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
        ".map(e => e.outerHTML.slice(0, 60))"
    )
    assert beyond == []
    assert run(UNREADABLE, READABLE) == []
    own = {page.as_uri(), "about:blank"}
    assert {address for address in requested(browser) if not address.startswith("data:")} <= own
    assert browser.get_log("browser") == []
    if folder := os.environ.get("TELEPATH_SCREENSHOTS"):
        height = run("return document.documentElement.scrollHeight")
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        name = f"{'committed' if page == COMMITTED else 'made'}-{width}-{scheme}.png"
        assert browser.save_screenshot(str(Path(folder) / name))


@pytest.mark.slow
def test_the_checks_find_what_is_wrong(browser: Chrome, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><html><body style='background: #222'><p style='color: #444'>hidden</p>"
        "<div style='width: 900px'>wide</div><img src='missing.png'>"
        "<script>console.warn('a warning')</script></body></html>"
    )
    show(browser, bad, 400, "dark")
    run: Callable[..., Any] = browser.execute_script
    assert "hidden" in run(UNREADABLE, READABLE)[0]
    assert run("return document.documentElement.scrollWidth") > 400
    assert run("return document.images[0].naturalWidth") == 0
    assert any(address.endswith("missing.png") for address in requested(browser))
    assert {entry["level"] for entry in browser.get_log("browser")} >= {"SEVERE", "WARNING"}
