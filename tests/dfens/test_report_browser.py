"""The report in headless Chromium: no console error, sorting, themes, a phone's width, keyboard focus, contrast."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from dfens.report.page import render_page
from dfens.report.report import build_report
from tests.support.reports import all_views, make_inputs

selenium = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and chromedriver are not installed")

# Relative luminance and contrast ratio of WCAG 2.2, of each visible text against the nearest painted background.
CONTRAST = """
const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const painted = (node) => {
  for (; node; node = node.parentElement) {
    const colour = rgb(getComputedStyle(node).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
let worst = [99, ""];
for (const node of document.querySelectorAll("main *, header *, nav *, footer")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || node.closest("svg") || node.closest("script") || !node.getClientRects().length) continue;
  const [a, b] = [light(rgb(getComputedStyle(node).color)), light(painted(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < worst[0]) worst = [ratio, node.outerHTML.slice(0, 120)];
}
return worst;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with the page of a generated workspace."""
    folder = tmp_path_factory.mktemp("page")
    report = build_report(
        make_inputs(count=5),
        find_views=all_views,
    )
    page = folder / "report.html"
    page.write_text(render_page(report))
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        f"disable-component-update disable-sync user-data-dir={folder / 'profile'}"
    ).split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def test_no_message_in_the_console(browser: Any) -> None:
    assert browser.get_log("browser") == []


def test_clicking_a_heading_sorts_the_table_and_clicking_again_reverses_it(browser: Any) -> None:
    def scores() -> list[float]:
        cells = browser.find_elements("css selector", "#models tbody td:nth-child(3)")
        return [float(cell.get_attribute("data-key")) for cell in cells]

    head = browser.find_element("css selector", "#models thead th:nth-child(3)")
    head.find_element("css selector", "button").click()
    assert scores() == sorted(scores(), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.find_element("css selector", "button").click()
    assert scores() == sorted(scores())
    assert head.get_attribute("aria-sort") == "ascending"


def test_the_theme_button_switches_page_and_plots(browser: Any) -> None:
    def colours() -> list[str]:
        script = """
        const text = document.querySelector("#curves svg text");
        return [getComputedStyle(document.body).backgroundColor, getComputedStyle(text).fill];
        """
        found: list[str] = browser.execute_script(script)
        return found

    before = colours()
    browser.find_element("id", "theme").click()
    after = colours()
    assert before[0] != after[0]
    assert before[1] != after[1]
    browser.find_element("id", "theme").click()
    assert colours() == before


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_sufficient_contrast(browser: Any, theme: str) -> None:
    browser.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
    ratio, node = browser.execute_script(CONTRAST)
    assert ratio >= 4.5, node  # WCAG 2.2, level AA


def test_a_phone_needs_no_horizontal_scrolling(browser: Any) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(12):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        tag, outline = browser.execute_script(
            "const e = document.activeElement; return [e.tagName, getComputedStyle(e).outlineStyle]"
        )
        reached.add(tag)
        assert outline == "solid"
    assert {"A", "BUTTON"} <= reached


def test_an_image_opens_enlarged_and_closes_with_escape(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.find_element("css selector", "button.enlarge").click()
    viewer = browser.find_element("id", "viewer")
    assert viewer.get_attribute("open") is not None
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert viewer.get_attribute("open") is None
