"""The page in a browser without a screen: what it draws, and what its keys do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from forecasts import forecast

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_scheme_has_its_colours(scheme: str, tmp_path: Path) -> None:
    text = page(both())
    wanted = {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
    if scheme == "dark":  # the command line has no switch for it
        text = text.replace("(prefers-color-scheme: dark)", "(min-width: 1px)")
    path = tmp_path / "x.html"
    script = "<script>document.title = getComputedStyle(document.body).backgroundColor</script></body>"
    path.write_text(text.replace("</body>", script), encoding="utf-8")
    assert BROWSER is not None
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        f"--user-data-dir={tmp_path / 'p'}",
    )
    done = subprocess.run([BROWSER, *options, path.as_uri()], capture_output=True, text=True, timeout=60)
    assert f"<title>{wanted}</title>" in done.stdout
