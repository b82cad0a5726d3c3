"""The page in a browser without a screen: what it draws, and what its keys do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from devtools import Tab, tab
from forecasts import forecast
from PIL import Image

from planner.report.plot.chart import Chart
from planner.report.plot.page import page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: " + ", ".join(BROWSERS))

ASKED = """
<script>
const said = document.createElement("ol"), slider = document.getElementById("plot");
said.id = "said";
const note = () => { const item = document.createElement("li"); item.textContent = TEXT; said.append(item); };
const key = (name, shiftKey) => slider.dispatchEvent(new KeyboardEvent("keydown", { key: name, shiftKey }));
KEYS
document.body.append(said);
</script>
"""


def dumped(folder: Path, chart: Chart, keys: str = "", text: str = '""') -> str:
    path = folder / "plot.html"
    script = ASKED.replace("KEYS", keys).replace("TEXT", text)
    path.write_text(page(chart).replace("</body>", script + "</body>"), encoding="utf-8")
    assert BROWSER is not None
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--dump-dom")
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [BROWSER, *options, profile, path.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def said(dom: str) -> list[str]:
    return re.findall(r"<li>([^<]*)</li>", dom.rpartition('<ol id="said">')[2])


def both(budget: int | None = 8 << 30) -> Chart:
    return Chart(
        plan="flux",
        pipeline="FluxPipeline",
        budget=budget,
        predicted=forecast(),
        measured=forecast(slower=1.1, more=1 << 26, source="measured"),
    )


def test_it_draws_both_over_each_other(tmp_path: Path) -> None:
    dom = dumped(tmp_path, both())
    assert 'data-drawn="yes"' in dom
    assert dom.count('class="area ') == 6
    assert dom.count('class="measured"') == 6
    assert dom.count('class="budget"') == 1
    assert ">budget 8.00 GiB<" in dom
    assert re.findall(r'class="stage"[^>]*>([^<]+)<', dom) == ["prompt", "denoise", "decode"]
    assert dom.count('class="compute edge"') == dom.count('class="copy edge"') + 2


def test_one_alone_is_areas(tmp_path: Path) -> None:
    dom = dumped(tmp_path, Chart(plan="x", pipeline="y", measured=forecast()))
    assert dom.count('class="area ') == 6
    assert 'class="measured"' not in dom
    assert 'class="budget"' not in dom


def test_nothing_in_it_is_no_error(tmp_path: Path) -> None:
    empty = forecast()
    chart = Chart(
        plan="x",
        pipeline="y",
        predicted=type(empty)(
            uses=(), intervals=(), samples=(), peak=0, seconds=0.0, first=0.0, source="not known"
        ),
    )
    assert 'data-drawn="yes"' in dumped(tmp_path, chart)


def test_keys_move_the_cursor_and_say_what_is_there(tmp_path: Path) -> None:
    chart = Chart(plan="x", pipeline="y", predicted=forecast())
    keys = (
        'key("ArrowRight"); note(); key("ArrowRight"); note(); key("ArrowLeft"); note(); key("End"); note();'
    )
    keys += 'key("Home"); note(); key("ArrowRight", true); note();'
    times = said(dumped(tmp_path, chart, keys, 'slider.getAttribute("aria-valuenow")'))
    assert times[:5] == ["180000", "270000", "180000", "1670000", "0"]
    assert int(times[5]) > 311_000
    (text,) = said(
        dumped(tmp_path, chart, 'key("ArrowRight"); note();', 'slider.getAttribute("aria-valuetext")')
    )
    assert text.startswith("0.180 s, prompt: driver 5.37 GiB")
    assert "weights 4.39 GiB" in text


def test_keys_zoom_and_show_all_again(tmp_path: Path) -> None:
    chart = Chart(plan="x", pipeline="y", predicted=forecast())
    keys = 'note(); key("+"); note(); key("+"); note(); key("-"); note(); key("0"); note();'
    seen = said(dumped(tmp_path, chart, keys, 'slider.querySelectorAll(".compute").length'))
    assert seen[0] == seen[4]
    assert int(seen[0]) > int(seen[1]) > int(seen[2])
    assert seen[1] == seen[3]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    assert BROWSER is not None
    with tab(BROWSER, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


RATIO = """(() => {
  const part = c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  const one = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const seen = css => {
    one.fillStyle = css; one.fillRect(0, 0, 1, 1);
    return [...one.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const behind = e => { for (; e; e = e.parentElement) {
    const b = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(b)) return b;
  } return "white"; };
  const found = {};
  for (const e of document.querySelectorAll("h1, h2, p, td, th, li, button, summary, svg text")) {
    const style = getComputedStyle(e), svg = e.closest("svg");
    const colour = svg ? style.fill : style.color;
    const back = e.matches(".in") ? getComputedStyle(svg.querySelector(".compute")).fill : behind(e);
    const [a, b] = [light(seen(colour)), light(seen(back))].sort((x, y) => y - x);
    found[`${e.tagName} ${e.getAttribute("class") ?? ""} ${colour} on ${back}`] = (a + .05) / (b + .05);
  }
  return found;
})()"""
"""By the rule of WCAG 2.2: each text's colour against what is behind it."""
OUT = """(() => {
  const wrong = [], wide = document.documentElement;
  if (wide.scrollWidth > innerWidth) wrong.push(`the page is ${wide.scrollWidth} wide`);
  for (const e of document.querySelectorAll("table, #readout, #legend, h1, #keys")) {
    const holder = e.closest("#readout") ?? e.parentElement, box = e.getBoundingClientRect();
    if (!box.width || e.closest("details")) continue;
    const room = holder.getBoundingClientRect().right;
    if (box.right > room + 1) wrong.push(`${e.tagName} ${e.id} ends at ${box.right} of ${room}`);
  }
  const plot = document.getElementById("plot").getBoundingClientRect();
  const texts = [...document.querySelectorAll("#plot text")].filter(e => e.textContent);
  const boxes = texts.map(e => [e.textContent, e.getBoundingClientRect()]);
  for (const [text, box] of boxes)
    if (box.left < plot.left || box.right > plot.right || box.bottom > plot.bottom)
      wrong.push(`${text} is cut`);
  boxes.forEach(([text, a], n) => boxes.slice(n + 1).forEach(([other, b]) => {
    if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
      wrong.push(`${text} is over ${other}`);
  }));
  for (const e of texts)
    if (parseFloat(getComputedStyle(e).fontSize) < 10) wrong.push(`${e.textContent} is small`);
  return wrong;
})()"""
"""What is cut, lies over another text, or is too small to be read."""
CHARTS = {
    "both": both,
    "above": lambda: both(80 << 30),
    "one": lambda: Chart(plan="x" * 60, pipeline="y", measured=forecast(source="measured")),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(scheme: str, width: int, name: str, browser: Tab, tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    path.write_text(page(CHARTS[name]()), encoding="utf-8")
    browser.open(path, scheme=scheme, width=width)
    assert browser.value("document.documentElement.dataset.drawn") == "yes"
    for folded in (False, True):
        browser.value(f"document.querySelectorAll('details').forEach(e => e.open = {json.dumps(folded)})")
        assert browser.value(OUT) == []
    ratios = browser.value(RATIO)
    assert {what: ratio for what, ratio in ratios.items() if ratio < 4.5} == {}
    browser.shot(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as shown:
        assert width - 20 < shown.width <= width  # without a bar to scroll by
        wanted = {"light": (255, 255, 255), "dark": (21, 24, 28)}[scheme]
        assert shown.convert("RGB").getpixel((2, 2)) == wanted
        assert len(shown.convert("RGB").getcolors(1 << 24) or ()) > 30
    assert browser.complaints() == []


@pytest.mark.wide
def test_a_hand_on_the_keys_and_the_mouse(browser: Tab, tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    path.write_text(page(both()), encoding="utf-8")
    browser.open(path, scheme="light", width=1280)
    now, drawn = "+plot.getAttribute('aria-valuenow')", "plot.querySelectorAll('.compute').length"
    names = []
    for _ in range(4):
        browser.key("Tab")
        names.append(browser.value("document.activeElement.id"))
    assert names == ["out", "in", "reset", "plot"]
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.key("ArrowRight")
    first = browser.value(now)
    browser.key("ArrowRight", shift=True)
    assert 0 < first < browser.value(now)
    browser.key("Home")
    assert browser.value(now) == 0
    browser.key("End")
    assert browser.value(now) == browser.value("+plot.getAttribute('aria-valuemax')") > 0
    browser.key("ArrowRight")
    assert browser.value(now) == browser.value("+plot.getAttribute('aria-valuemax')")
    whole = browser.value(drawn)
    browser.key("+")
    browser.key("+")
    assert browser.value(drawn) < whole
    browser.key("0")
    assert browser.value(drawn) == whole
    box = browser.value("JSON.parse(JSON.stringify(plot.getBoundingClientRect()))")
    seen = []
    for part in (0.3, 0.6, 0.97):
        browser.mouse(box["x"] + box["width"] * part, box["y"] + 60)
        seen.append((browser.value(now), browser.value("readout.textContent")))
    assert [at for at, _ in seen] == sorted({at for at, _ in seen})
    assert len({text for _, text in seen}) == 3
    assert "measured compute: decode" in seen[2][1]
    assert browser.complaints() == []


def test_what_it_would_complain_of(browser: Tab, tmp_path: Path) -> None:
    """The checks above find what they look for."""
    path = tmp_path / "x.html"
    bad = "<script>console.error('x'); fetch('http://127.0.0.1:9/x'); undefined.x</script>"
    bad += "<style>body { width: 2000px } svg text { font-size: 5px }"
    bad += "header p { color: #ddd !important }</style>"
    made = page(both()).replace("default-src 'none'", "default-src *")
    path.write_text(made.replace("</body>", bad + "</body>"), encoding="utf-8")
    browser.open(path, scheme="light", width=400)
    said = json.dumps(browser.complaints())
    assert "127.0.0.1:9" in said
    assert '"value": "x"' in said
    assert "TypeError" in said
    wrong = browser.value(OUT)
    assert any("wide" in one for one in wrong), wrong
    assert any("small" in one for one in wrong), wrong
    assert any(ratio < 4.5 for ratio in browser.value(RATIO).values())
