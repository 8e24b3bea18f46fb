"""The dashboard as a reader meets it, in a real Chromium over a real server."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect

from archsmith.service.auth import create_key
from archsmith.service.store.records import Role

from .seed import Trials, new_search, record, running_search, start, verify

pytestmark = pytest.mark.browser

PREDICTED = (0x2C, 0x55, 0xD4)
MEASURED = (0xB0, 0x50, 0x0A)


@pytest.fixture(autouse=True)
def clean(seen) -> Iterator[None]:
    """No page may ask for anything elsewhere, log an error or break its own policy."""
    yield
    assert seen.foreign == []
    assert seen.complaints == []


DRAWN = "() => document.querySelector('#pareto').data.flatMap((trace) => trace.customdata ?? [])"
"""Numbers of the front members in the scatter."""


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that Playwright cannot wait for itself: its polling needs `eval`, which the page forbids."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def open_search(page, search, query: str = "") -> None:
    page.goto(f"/searches/{search.id}{query}")
    page.wait_for_selector("[data-testid=search-page][data-ready=true]")


def query_of(page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def pixels(page, selector: str) -> np.ndarray:
    """[H, W, 3] uint8 screenshot of an element."""
    from PIL import Image

    png = page.locator(selector).first.screenshot()
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def count_color(image: np.ndarray, color: tuple[int, int, int], tolerance: int = 12) -> int:
    return int((np.abs(image.astype(int) - color).max(axis=2) <= tolerance).sum())


def axis_title(page, side: str) -> str:
    return page.locator(f"#pareto .{side}title").text_content()


def test_searches_list_shows_each_search_and_leads_to_it(page, served):
    page.goto("/searches?state=succeeded")
    row = page.get_by_test_id("search-row").filter(has_text=re.compile(r"\bdigits\b")).last
    assert row.get_by_test_id("state").inner_text() == "Succeeded"
    row.get_by_role("link").click()
    page.wait_for_selector("[data-testid=search-page][data-ready=true]")
    assert page.get_by_role("heading", level=1).inner_text().startswith("digits")


def test_searches_list_new_search_appears_without_reload(page, served):
    page.goto("/searches?state=queued")
    page.evaluate("window.stayed = true")
    served.store.create_search(new_search("submitted just now"))
    page.get_by_text("submitted just now").wait_for()
    assert page.evaluate("window.stayed")


def test_scatter_draws_measured_and_predicted_points_and_they_differ(page, served):
    open_search(page, served.finished)
    verified = pixels(page, "#pareto")
    assert count_color(verified, MEASURED) > 200
    assert count_color(verified, PREDICTED) > 200
    page.get_by_role("button", name="Believed").click()
    believed = pixels(page, "#pareto")
    assert count_color(believed, MEASURED) == 0
    assert count_color(believed, PREDICTED) > count_color(verified, PREDICTED)
    assert query_of(page)["view"] == ["believed"]


def test_scatter_background_trials_are_drawn_and_infeasible_ones_can_be_left_out(page, served):
    open_search(page, served.finished)
    everything = pixels(page, "#pareto")
    page.get_by_label("Feasible only").check()
    assert query_of(page)["feasible"] == ["1"]
    feasible = pixels(page, "#pareto")
    background = lambda image: int((image != 255).any(axis=2).sum())  # noqa: E731  # one expression, used twice
    assert background(feasible) < background(everything)


def test_axis_picker_changes_plot_and_url_and_survives_a_reload(page, served):
    open_search(page, served.finished)
    assert "Latency on host" in axis_title(page, "x")
    page.get_by_test_id("axis-x").select_option("params")
    expect(page.locator("#pareto .xtitle")).to_contain_text("Parameters")
    page.get_by_label("log").first.check()
    assert query_of(page) == {"x": ["params"], "xlog": ["1"]}
    page.reload()
    page.wait_for_selector("[data-ready=true]")
    assert "Parameters" in axis_title(page, "x")
    assert page.get_by_test_id("axis-x").input_value() == "params"
    assert count_color(pixels(page, "#pareto"), PREDICTED) > 100


def test_running_search_updates_chart_table_and_figures_without_reload(page, served):
    search, lease, trials = running_search(served.store, "live")
    open_search(page, search)
    page.evaluate("window.stayed = true")
    assert page.get_by_test_id("kpi-trials").locator("dd").inner_text() == "160"
    front_before = {row.get_attribute("data-number") for row in page.get_by_test_id("front-row").all()}
    record(served.store, lease, trials, 160)
    expect(page.get_by_test_id("kpi-trials").locator("dd")).to_have_text("320", timeout=20_000)
    shown = {str(number) for number in served.store.front(search.id).numbers}
    assert shown != front_before
    until(lambda: {row.get_attribute("data-number") for row in page.get_by_test_id("front-row").all()} == shown)
    until(lambda: set(map(str, page.evaluate(DRAWN))) == shown)
    verify(served.store, search, lease)
    page.get_by_test_id("verdict").first.wait_for()
    served.store.finish(lease)
    expect(page.locator("#status").get_by_test_id("state")).to_have_text("Succeeded", timeout=20_000)
    expect(page.locator("#live")).to_have_text("Ended", timeout=20_000)
    assert page.evaluate("window.stayed")


def test_hidden_tab_catches_up_when_shown(page, served):
    search, lease, trials = running_search(served.store, "asleep")
    open_search(page, search)
    set_hidden = """(hidden) => {
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(set_hidden, True)
    record(served.store, lease, trials, 32)
    page.wait_for_timeout(1500)
    assert page.get_by_test_id("kpi-trials").locator("dd").inner_text() == "160"
    page.evaluate(set_hidden, False)
    expect(page.get_by_test_id("kpi-trials").locator("dd")).to_have_text("192", timeout=20_000)


def test_front_row_and_point_select_each_other(page, served):
    open_search(page, served.finished)
    row = page.get_by_test_id("front-row").nth(3)
    number = row.get_attribute("data-number")
    row.get_by_role("button", name=f"Select trial {number}").click()
    assert page.get_by_test_id("chosen").get_by_role("heading").inner_text() == f"Trial {number}"
    assert query_of(page)["pick"] == [number]
    row.hover()
    page.locator("#pareto .hoverlayer .hovertext").wait_for()
    assert f"Trial {number}" in (page.locator("#pareto .hoverlayer").text_content() or "")
    page.reload()
    page.wait_for_selector("[data-ready=true]")
    assert page.get_by_test_id("chosen").get_by_role("heading").inner_text() == f"Trial {number}"


def test_clicking_a_point_selects_its_row(page, served):
    open_search(page, served.finished)
    spot = page.evaluate("""() => {
        const plot = document.querySelector('#pareto');
        const trace = plot.data.find((one) => one.name === 'Measured');
        const { xaxis, yaxis } = plot._fullLayout;
        const box = plot.getBoundingClientRect();
        return { x: box.x + xaxis._offset + xaxis.l2p(trace.x[0]), y: box.y + yaxis._offset + yaxis.l2p(trace.y[0]),
                 number: trace.customdata[0] };
    }""")
    page.mouse.move(spot["x"], spot["y"])
    page.locator("#pareto .hoverlayer .hovertext").wait_for()
    expect(page.locator(f"tr[data-number='{spot['number']}']")).to_contain_class("hot")
    page.mouse.click(spot["x"], spot["y"])
    page.get_by_test_id("chosen").wait_for()
    assert page.get_by_test_id("chosen").get_by_role("heading").inner_text() == f"Trial {spot['number']}"


def test_best_under_a_limit_respects_the_limit(page, served):
    open_search(page, served.finished)
    page.get_by_label("Latency on host at most").fill("0.07")
    page.get_by_test_id("pick-best").click()
    cells = page.get_by_test_id("chosen").locator("tr", has_text="Latency on host").locator("td").first.inner_text()
    assert float(cells.split(" ")[0]) <= 0.07
    assert query_of(page)["limit.latency_ms@host"] == ["0.07"]
    page.get_by_label("Latency on host at most").fill("0.0001")
    assert "Relax" in page.locator("#limit-result").inner_text()


def test_front_table_sorts_by_a_column_in_both_directions(page, served):
    open_search(page, served.finished)
    # Read in one go: a live update may swap the rows between two reads.
    sorted_by = """(sign) => {
        const cells = [...document.querySelectorAll("#front tbody tr td:nth-child(2)")];
        const values = cells.map((cell) => sign * Number(cell.dataset.sort));
        return values.length > 2 && values.every((value, row) => row === 0 || values[row - 1] <= value);
    }"""
    assert not page.evaluate(sorted_by, 1)
    page.get_by_role("button", name="Accuracy, %").click()
    page.wait_for_function(sorted_by, arg=-1)
    page.get_by_role("button", name="Accuracy, %").click()
    page.wait_for_function(sorted_by, arg=1)
    assert page.locator("th[data-column=accuracy]").get_attribute("aria-sort") == "ascending"


def test_keyboard_reaches_controls_and_selects_a_member(page, served):
    open_search(page, served.finished)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    page.get_by_role("button", name=re.compile("Select trial")).first.focus()
    page.keyboard.press("Enter")
    page.get_by_test_id("chosen").wait_for()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_cancel_asks_first_and_then_cancels(page, served):
    search, _, _ = running_search(served.store, "to be cancelled")
    open_search(page, search)
    page.get_by_test_id("action-cancel").click()
    page.get_by_role("button", name="Keep it").click()
    assert served.store.search(search.id).cancel_requested_at is None
    page.get_by_test_id("action-cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_test_id("notice").wait_for()
    assert served.store.search(search.id).cancel_requested_at is not None


def test_pause_and_resume_from_the_page(page, served):
    search = served.store.create_search(new_search("to be paused"))
    open_search(page, search)
    page.get_by_test_id("action-pause").click()
    page.get_by_test_id("action-resume").click()
    page.get_by_test_id("action-pause").wait_for()
    assert served.store.search(search.id).state == "queued"


def test_search_without_trials_says_so(page, served):
    search, _ = start(served.store, "empty")
    open_search(page, search)
    assert page.locator("#pareto-empty").is_visible()
    assert page.get_by_text("The front is empty").is_visible()


def test_trial_page_shows_architecture_and_both_values(page, served):
    number = int(served.store.front(served.finished.id, "verified").numbers[0])  # type: ignore[arg-type]  # a StrEnum
    page.goto(f"/searches/{served.finished.id}/trials/{number}")
    assert page.get_by_test_id("genes").locator("tbody tr").count() >= 3
    latency = page.get_by_test_id("values").locator("tr", has_text="Latency")
    assert re.search(r"[+-]\d+\.\d\s%", latency.inner_text())
    with page.expect_download() as download:
        page.get_by_role("link", name="model.onnx").click()
    assert download.value.suggested_filename == "model.onnx"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_trial_page_shows_its_picture_on_the_page_s_ground(page, served, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"/searches/{served.finished.id}/trials/0")
    picture = page.get_by_test_id("picture")
    until(lambda: picture.evaluate("(image) => image.complete && image.naturalWidth > 0"))
    assert (
        picture.bounding_box()["width"] == 760
    )  # scrolls inside its card, as text of a third of its size says nothing
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 900})
    image = pixels(page, "[data-testid=picture]").astype(int).mean(axis=2)
    ground, ink = (255, 0x30) if scheme == "light" else (0x17, 0xE0)
    assert (abs(image - ground) < 10).mean() > 0.5
    assert (abs(image - ink) < 24).sum() > 500
    check_accessibility(page)


@pytest.mark.parametrize("path", ["/searches", "/jobs", "/devices"])
def test_pages_name_their_controls_and_have_one_main_heading(page, served, path):
    page.goto(path)
    check_accessibility(page)


def test_search_page_names_its_controls_in_the_dark_and_on_a_phone(page, served):
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    open_search(page, served.finished)
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def check_accessibility(page) -> None:
    """Landmarks, one h1, a language, and a name for everything that can be operated."""
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("main").count() == 1
    unnamed = page.evaluate("""() => [...document.querySelectorAll('button, a[href], input:not([type=hidden]), select')]
        .filter((one) => one.closest('dialog') === null)
        .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length))
        .map((one) => one.outerHTML)""")
    assert unnamed == []
    doubled = page.evaluate("""() => { const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
        return ids.filter((id, index) => ids.indexOf(id) !== index); }""")
    assert doubled == []


def test_second_search_of_many_trials_keeps_the_background_within_its_limit(page, served):
    search, lease = start(served.store, "many")
    record(served.store, lease, Trials(seed=5), 1_500, step=500)
    open_search(page, search)
    drawn = page.evaluate("""() => document.querySelector('#pareto').data
        .filter((trace) => trace.hoverinfo === 'skip' && / trials$/.test(trace.name))
        .reduce((sum, trace) => sum + trace.x.length, 0)""")
    assert drawn == 1_500


def test_sign_in_act_download_and_sign_out_where_keys_are_needed(chromium, guarded):
    with signed_in(chromium, guarded, Role.EDITOR) as page:
        search, lease, trials = running_search(guarded.store, "guarded")
        open_search(page, search)
        page.locator("#live[data-state=open]").wait_for()
        record(guarded.store, lease, trials, 16)
        expect(page.get_by_test_id("kpi-trials").locator("dd")).to_have_text("176")
        page.get_by_test_id("action-pause").click()
        page.get_by_test_id("action-resume").wait_for()
        assert guarded.store.search(search.id).pause_requested_at is not None
        open_search(page, guarded.finished)
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").click()
        assert download.value.suggested_filename.endswith(".csv")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("API key").wait_for()
        page.goto("/searches")
        assert urlsplit(page.url).path == "/login"


def test_viewer_is_offered_no_actions(chromium, guarded):
    with signed_in(chromium, guarded, Role.VIEWER) as page:
        search, _, _ = running_search(guarded.store, "only looked at")
        open_search(page, search)
        assert page.get_by_test_id("account").inner_text().startswith("Viewer")
        assert page.locator("[data-post]").count() == 0


def test_background_of_all_trials_is_drawn_over_sizes_too(page, served):
    open_search(page, served.finished, "?x=macs&y=params")
    assert axis_title(page, "x").startswith("MACs")
    drawn = page.evaluate("""() => document.querySelector('#pareto').data
        .filter((trace) => / trials$/.test(trace.name)).reduce((sum, trace) => sum + trace.x.length, 0)""")
    assert drawn == served.finished.n_trials


@contextmanager
def signed_in(chromium, guarded, role: Role) -> Iterator:
    """A page of someone who came to the list of searches and signed in there."""
    key = create_key(guarded.store, guarded.signing_key, name=role.value, role=role)
    context = chromium.new_context(base_url=guarded.url)
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/searches")
    check_accessibility(page)
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_test_id("search-row").first.wait_for()
    yield page
    assert complaints == []
    context.close()
