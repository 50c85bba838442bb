"""The page in headless Chromium, as a user has it: offline, with a mouse and without one.

Drawing the figures takes most of the time, so that tests of the gallery and the tables have the
page without plotly.
"""

import csv
import shutil
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import report_runs as made

from compare.report import page as report_page
from compare.report.collect import collect
from compare.report.thumbnails import Source
from shared.formats import external, noise_file
from shared.formats.alignment import subset
from shared.formats.corrections import replaced
from shared.formats.label_quality import Verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.training,
]
NO_FIGURES = "const Plotly = { react: place => place.append(document.createElement('svg')) };"
NAMES = ("</script><script>alert(1)</script>", "りんご", "<b>bold</b>", 'a "b", c')


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def html_of(folder, place, source):
    path = folder / "report.html"
    html, _ = report_page.page(collect([place]), source, first=100)
    path.write_text(html, encoding="utf-8")
    return path


def without_figures(*words):
    """The same with a stand-in for plotly."""
    with mock.patch.object(report_page, "get_plotlyjs", return_value=NO_FIGURES):
        return html_of(*words)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return made.three_methods(tmp_path_factory.mktemp("runs"), made.noise(200))


@pytest.fixture(scope="module")
def digits(tmp_path_factory, runs):
    return html_of(tmp_path_factory.mktemp("digits"), runs, Source("digits"))


@pytest.fixture(scope="module")
def many_methods(tmp_path_factory):
    """All eight of a comparison."""
    folder = tmp_path_factory.mktemp("many")
    labels = made.noise(200)
    for number, method in enumerate(made.METHODS):
        says = made.verdict(labels, 0.5 + number / 20, number)
        made.write(folder / "runs" / method, labels, method, says=says)
    return html_of(folder, folder / "runs", Source("digits"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory, runs):
    """The page without figures."""
    return without_figures(tmp_path_factory.mktemp("plain"), runs, Source("digits"))


@pytest.fixture(scope="module")
def hostile_runs(tmp_path_factory):
    """Names that are code, no truth, no test set, no picture, one run."""
    folder = tmp_path_factory.mktemp("hostile")
    labels = noise_file.make([0, 1, 2, 3] * 5, num_classes=4)
    quality = np.linspace(0, 1, 20)
    says = Verdict(np.roll(labels.noisy_labels, 1), quality, quality, quality < 0.5)
    files = [f"<img src=x onerror=alert({number})>.png" for number in range(20)]
    more = {"names": NAMES, "says": says, "files": files, "accuracies": [None] * 4}
    return made.write(folder / "runs/one", labels, **more)


@pytest.fixture
def open_page(browser):
    """Opens a file; whatever it complains of or asks for, and any box that pops up, fails."""
    problems, contexts = [], []

    def watched(path, **settings):
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: problems.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda r: None if is_own(r.url, path) else problems.append(r.url))
        page.goto(path.as_uri())
        page.wait_for_function(
            "[...document.querySelectorAll('.plot')].every(e => e.children.length)"
        )
        return page

    yield watched
    for context in contexts:
        context.close()
    assert problems == []


def is_own(url, path):
    return url == path.as_uri() or url.startswith(("data:", "blob:"))


def cards(page):
    return page.locator("#cards > li").all_inner_texts()


@pytest.mark.parametrize("width", [1400, 420, 320])
def test_it_opens_and_fits(open_page, digits, width):
    page = open_page(digits, viewport={"width": width, "height": 900})
    for scheme, colour in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 28)")):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".plot svg.main-svg").count() >= 12  # two layers of each figure
        shown = page.locator("#cards img").first
        assert shown.evaluate("image => image.complete && image.naturalWidth") == 32
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == colour


@pytest.mark.parametrize("width", [1280, 320])
def test_the_figures_can_be_read_at_any_width(open_page, many_methods, width):
    page = open_page(many_methods, viewport={"width": 800, "height": 700})
    page.wait_for_selector("#figure-roc .legend")
    page.set_viewport_size({"width": width, "height": 700})
    page.wait_for_function(
        """() => ["figure-roc", "figure-agreement", "matrix"].every(place =>
            document.getElementById(place).querySelector("svg").clientWidth
            === document.getElementById(place).clientWidth)"""
    )
    box = """selector => {
        const { top, bottom } = document.querySelector(selector).getBoundingClientRect();
        return { top, bottom };
    }"""
    whole, legend, plot, title = (
        page.evaluate(box, f"#figure-roc {part}")
        for part in ("svg", ".legend", ".nsewdrag", ".ytitle")
    )
    assert page.locator("#figure-roc .legend .traces").count() == 9  # eight, and by chance
    assert page.locator("#figure-roc .scrollbar").get_attribute("height") == "0"
    assert legend["bottom"] <= plot["top"]
    assert plot["bottom"] - plot["top"] > 150
    assert whole["top"] <= title["top"]
    assert title["bottom"] <= whole["bottom"]
    for place in ("figure-agreement", "matrix"):
        sizes = page.eval_on_selector_all(
            f"#{place} .heatmap-label text",
            "all => all.map(each => parseFloat(getComputedStyle(each).fontSize))",
        )
        assert sizes
        assert min(sizes) >= 8
        whole, cells = (page.evaluate(box, f"#{place} {part}") for part in ("svg", ".nsewdrag"))
        assert cells["top"] - whole["top"] < 30


def test_names_that_are_code_do_nothing(open_page, hostile_runs, tmp_path):
    page = open_page(html_of(tmp_path, hostile_runs, Source("folder", tmp_path)))
    assert page.locator("#cards b").filter(has_text="<b>bold</b>").count() > 0
    assert page.locator("#by-given option").all_inner_texts()[1:] == list(NAMES)
    assert "no picture of <img src=x" in cards(page)[0]
    assert page.locator("main img, main b b").count() == 0


def test_nothing_can_be_fetched_even_by_a_script(browser, plain):
    context = browser.new_context()
    page = context.new_page()
    page.goto(plain.as_uri())
    fetched = page.evaluate("fetch('https://example.org').then(() => 'yes', () => 'no')")
    script = page.evaluate(
        """() => {
            const made = document.createElement("script");
            made.textContent = "window.ran = 1";
            document.body.append(made);
            return window.ran === undefined;
        }"""
    )
    context.close()
    assert fetched == "no"
    assert script


def test_a_heading_sorts_its_column(open_page, plain):
    page = open_page(plain)
    button = page.locator("#quality-table thead button", has_text="AUC")
    column = page.locator("#quality-table tbody tr td:nth-child(2)")
    orders = []
    for _ in range(2):
        button.click()
        orders.append([float(text.split()[0]) for text in column.all_inner_texts()])
    assert orders[0] == sorted(orders[0], reverse=True)
    assert orders[1] == sorted(orders[0])
    assert button.locator("..").get_attribute("aria-sort") == "ascending"


def test_the_gallery_is_filtered_by_class_and_method(open_page, plain):
    page = open_page(plain)
    everything = cards(page)
    page.select_option("#by-given", label="3")
    some = cards(page)
    assert 0 < len(some) < len(everything)
    assert all("given 3" in text for text in some)
    page.select_option("#by-predicted", label="2")
    assert all("given 3\npredicted 2" in text for text in cards(page))
    page.select_option("#by-given", "")
    page.select_option("#by-predicted", "")
    page.select_option("#by-method", label="InstanceGM")
    ranks = [float(text.split("rank ")[1].split(",")[0]) for text in cards(page)]
    assert ranks == sorted(ranks)
    assert ranks[0] == 1
    page.check("#only-flagged")
    assert all("flagged by" in text and "flagged by 0" not in text for text in cards(page))


def test_a_rank_is_one_among_the_labels_that_the_method_judged(open_page, tmp_path):
    labels = made.noise(200)
    part = subset(replace(labels, indices=np.arange(200)), np.arange(0, 200, 7))
    made.write(tmp_path / "runs/all", labels, says=made.verdict(labels))
    made.write(tmp_path / "runs/part", part, "sln", says=made.verdict(part))
    page = open_page(without_figures(tmp_path, tmp_path / "runs", Source("digits")))
    page.select_option("#by-method", label="SLN+MO+LC")
    ranks = [int(text.split("rank ")[1].split(",")[0]) for text in cards(page)]
    assert ranks == list(range(1, 30))


def test_more_can_be_shown(open_page, plain):
    page = open_page(plain)
    before = len(cards(page))
    page.click("#more")
    assert len(cards(page)) > before
    focused = page.evaluate(
        "[...document.querySelectorAll('#cards input')].indexOf(document.activeElement)"
    )
    assert focused == 2 * before  # the first of the new ones; a card has two inputs


def test_the_ticked_ones_are_downloaded_and_are_a_noise_file(open_page, plain, tmp_path):
    page = open_page(plain)
    assert page.locator("#download").is_disabled()
    for card in (2, 4):
        page.locator("#cards input[type=checkbox]").nth(card).check()
    for card, label in ((2, "0"), (5, "7")):  # the second one is ticked by being corrected
        page.locator("#cards input[type=text]").nth(card).fill(label)
        page.locator("#cards input[type=text]").nth(card).blur()
    assert "3 ticked" in page.locator("#count").inner_text()
    with page.expect_download() as waiting:
        page.click("#download")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert path.name == "ticked_labels.csv"
    assert sorted(row["new_label"] for row in rows) == ["", "0", "7"]
    labels = made.noise(200)
    for row in rows:
        assert int(row["given_label"]) == labels.noisy_labels[int(row["index"])]
    better = replaced(labels, external.read_any(f"{path}:new_label"))
    changed = {int(row["index"]): int(row["new_label"]) for row in rows if row["new_label"]}
    expected = [changed.get(k, label) for k, label in enumerate(labels.noisy_labels.tolist())]
    assert better.noisy_labels.tolist() == expected
    page.check("#only-ticked")
    assert len(cards(page)) == 3
    page.click("#untick")
    assert cards(page) == []


def test_a_right_label_that_is_no_class_is_marked(open_page, plain):
    page = open_page(plain)
    right = page.locator("#cards input[type=text]").first
    for written, is_class in (("seven", False), ("7", True), ("", True)):
        right.fill(written)
        right.blur()
        assert right.evaluate("e => e.validity.valid") == is_class


def test_a_right_label_that_is_no_class_is_not_downloaded(open_page, plain):
    page = open_page(plain)
    refused = page.locator("#refused")
    fields = page.locator("#cards input[type=text]")
    fields.nth(0).fill("seven")
    fields.nth(1).fill("7")
    fields.nth(1).blur()
    downloads = []
    page.on("download", lambda download: downloads.append(download))
    page.click("#download")
    assert '"seven" of sample ' in refused.inner_text()
    assert '"7"' not in refused.inner_text()
    assert is_asked_before_leaving(page)
    page.select_option("#by-method", label="InstanceGM")  # the cards are made anew
    page.select_option("#by-method", label="all methods, by mean rank")
    assert not fields.nth(0).evaluate("e => e.validity.valid")
    fields.nth(0).fill("6")
    fields.nth(0).blur()
    with page.expect_download():
        page.click("#download")
    assert len(downloads) == 1
    assert not refused.is_visible()


def is_asked_before_leaving(page):
    return page.evaluate(
        """() => {
            const leaving = new Event("beforeunload", { cancelable: true });
            return !dispatchEvent(leaving);
        }"""
    )


def test_a_review_that_is_not_downloaded_is_not_lost_without_a_question(open_page, plain):
    page = open_page(plain)
    assert not is_asked_before_leaving(page)
    boxes, fields = (page.locator(f"#cards input[type={kind}]") for kind in ("checkbox", "text"))
    boxes.nth(2).check()
    assert is_asked_before_leaving(page)
    with page.expect_download():
        page.click("#download")
    assert not is_asked_before_leaving(page)
    fields.nth(3).type("1")  # still in the field
    assert is_asked_before_leaving(page)
    page.click("#untick")
    assert not is_asked_before_leaving(page)
    page.click("#tick-all")
    assert is_asked_before_leaving(page)


def test_what_has_a_right_label_is_ticked(open_page, plain):
    page = open_page(plain)
    box, field = (page.locator(f"#cards input[type={kind}]").first for kind in ("checkbox", "text"))
    field.fill("3")
    field.blur()
    assert box.is_checked()
    box.uncheck()
    assert field.input_value() == ""
    box.check()
    assert field.input_value() == "3"
    field.fill("")
    field.blur()
    assert not box.is_checked()
    assert "0 ticked" in page.locator("#count").inner_text()


def test_names_with_commas_and_quotes_survive_the_download(open_page, hostile_runs, tmp_path):
    page = open_page(without_figures(tmp_path, hostile_runs, Source("folder", tmp_path)))
    page.click("#tick-all")
    with page.expect_download() as waiting:
        page.click("#download")
    waiting.value.save_as(tmp_path / "ticked.csv")
    with (tmp_path / "ticked.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["given_name"] for row in rows} == set(NAMES)
    assert [int(row["index"]) for row in rows] == list(range(20))


def test_it_works_without_a_mouse(open_page, digits):
    page = open_page(digits)
    page.keyboard.press("Tab")
    assert "Skip" in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    visited = []
    for _ in range(9):
        page.keyboard.press("Tab")
        visited.append(page.evaluate("document.activeElement.id"))
    assert {"by-method", "by-given", "by-predicted", "only-flagged", "tick-all"} <= set(visited)
    page.focus("#cards input[type=checkbox]")
    page.keyboard.press("Space")
    assert "1 ticked" in page.locator("#count").inner_text()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    unnamed = page.evaluate(
        """[...document.querySelectorAll("main button, main input, main select, main img")]
        .filter(e => !(e.labels?.length || e.ariaLabel || e.alt || e.textContent.trim())).length"""
    )
    assert unnamed == 0


def test_a_matrix_is_chosen_and_has_light_numbers_on_a_dark_page(open_page, digits):
    page = open_page(digits, color_scheme="dark")
    page.wait_for_selector("#matrix .heatmap-label text")
    fills = page.eval_on_selector_all(
        "#matrix .heatmap-label text", "all => all.map(each => getComputedStyle(each).fill)"
    )
    assert set(fills) == {"rgb(228, 232, 236)"}  # --text
    title = "document.querySelector('#matrix .ytitle').textContent"
    assert page.evaluate(title) == "clean label"
    page.select_option("#matrix-choice", label="InstanceGM: given → predicted")
    assert page.evaluate(title) == "given label"


def test_it_prints_on_paper(open_page, digits):
    page = open_page(digits)
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
