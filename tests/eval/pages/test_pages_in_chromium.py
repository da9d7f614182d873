"""The pages as a browser shows them, on a phone and on a desk."""

import os

import pytest

import chromium
from chromium import find_chromium, open_browser
from eval.pages.compare_runs import compare_runs
from eval.pages.report import write_report
from eval.pages.runs_page import render_comparison
from eval.records import write_text
from tiny_pages import write_full_run

WIDTHS = {"phone": 360, "tablet": 768, "desk": 1280}


@pytest.fixture(scope="module")
def browser():
    program = find_chromium()
    if program is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("no Chromium; CI must look at the pages")
        pytest.skip("needs Chromium")
    with open_browser(program) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    runs = [
        write_full_run(folder / name)
        for name in ("run", "another-run-with-a-name-that-goes-on-and-on-and-on", "third")
    ]
    compared = folder / "runs.html"
    write_text(compared, render_comparison(compare_runs(runs, which="newest")))
    return {"report": write_report(runs[0]), "comparison": compared}


def test_a_browser_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(chromium, "PATIENCE_SECONDS", 0.05)
    commands, answers = os.pipe(), os.pipe()
    with pytest.raises(AssertionError, match="Chromium does not answer"):
        chromium.Browser(commands[1], answers[0])
    for end in (*commands, *answers):
        os.close(end)


@pytest.mark.parametrize("page", ["report", "comparison"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_sticks_out_complains_or_is_loaded(browser, pages, page, width):
    told, asked, wide, outside = browser.look(pages[page], width)
    assert told == []
    assert [address for address in asked if not address.startswith("data:")] == [
        pages[page].as_uri()
    ]
    assert outside == []
    assert wide <= width


def test_a_page_that_would_fail_is_found_out(browser, tmp_path):
    page = tmp_path / "page.html"
    write_text(
        page,
        "<!doctype html><body><p style='width: 2000px'>wide</p>"
        "<img src='other.png'><script>throw new Error('broken')</script></body>",
    )
    told, asked, wide, outside = browser.look(page, 360)
    assert any("broken" in str(event) for event in told)
    assert (tmp_path / "other.png").as_uri() in asked
    assert wide >= 2000
    assert outside == ["P wide"]


@pytest.mark.parametrize("page", ["report", "comparison"])
def test_light_and_dark_follow_the_reader(browser, pages, page):
    seen = {}
    for scheme in ("light", "dark"):
        browser.look(pages[page], 360, scheme)
        colours = "[getComputedStyle(document.body).backgroundColor, "
        colours += "getComputedStyle(document.querySelector('svg text.tick')).fill]"
        seen[scheme] = browser.evaluate(colours)
    assert seen["light"][0] == "rgb(246, 245, 242)"
    assert seen["dark"][0] == "rgb(20, 22, 26)"
    assert seen["light"][1] != seen["dark"][1]


def test_the_report_shows_every_kind_of_result(browser, pages):
    browser.look(pages["report"], 1280)
    text = browser.evaluate("document.body.innerText")
    for words in (
        "Which modalities",
        "text + image + audio",
        "Other probes of the same features",
        "few-shot 1 %",
        "no knn of late",
        "Embedding map",
        "200 drawn from 5,000 samples of step-00000200",
        "Fine-tuned",
        "fused without text",
        "Finding one modality by another",
        "text → image",
        "The run has not learned from this split of these shards.",
        "fused over checkpoints",
        "classes and confusion",
        "What the networks see",
    ):
        assert words in text
    assert browser.evaluate("document.querySelectorAll('svg .ribbon').length") == 2 * 5
    assert browser.evaluate("document.querySelectorAll('svg .series.floor').length") == 2 * 5
    assert browser.evaluate("document.querySelectorAll('.maps svg .dot').length") == 2 * 12
    assert browser.evaluate("document.querySelectorAll('td.heat.hit').length") == 5 * 12


def test_the_newest_answer_and_the_newest_models_are_shown(browser, pages):
    browser.look(pages["report"], 1280)
    cells = "[...document.querySelectorAll('td[data-label=\"at 1\"]')].map(one => one.innerText)"
    assert browser.evaluate(cells) == ["20.0 ± 5.0 (10.0)"] * 2
