"""The page in a real browser: it asks, streams, draws what HBM holds and what it took, and shows errors."""

import os
import shutil
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from experts.data.splits import DOMAINS
from rdujax.serve.app import Limits, Service
from tests.rooms.serve.conftest import Make, listening, wait_for

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# A browser is no Python package: who wants to be sure that none is skipped says so.
pytestmark = pytest.mark.skipif(
    BROWSER is None and not os.environ.get("RDUJAX_BROWSER"), reason="there is no Chromium on this machine"
)
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
         "--disable-gpu", "--disable-quic", "--no-sandbox"]  # fmt: skip


@pytest.fixture
def opened(make: Make) -> Iterator[tuple[Page, Service, list[str]]]:
    """The page, its server, and what the browser complains of."""
    service, complaints = Service(make(), DOMAINS, Limits(answer_s=30)), list[str]()
    with listening(service) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/")
        yield page, service, complaints
        browser.close()


def test_a_prompt_is_answered_and_drawn(opened: tuple[Page, Service, list[str]]):
    page, service, complaints = opened
    expect(page.locator("#node")).to_contain_text("node, 8 experts, clock offline")
    expect(page.locator("#model option")).to_have_count(9)
    page.select_option("#model", "samba-coe/math")
    page.fill("#prompt", "one two")
    page.click("#send")
    expect(page.locator("#bars li")).to_have_count(1, timeout=30_000)
    expect(page.locator("#who")).to_have_text("math, as asked")
    expect(page.locator("#bars li span")).to_contain_text("math, was copied into HBM")
    widths = page.eval_on_selector_all("#bars .bar i", "all => all.map(each => each.getBoundingClientRect().width)")
    bar = page.eval_on_selector("#bars .bar", "each => each.getBoundingClientRect().width")
    assert sum(widths) == pytest.approx(bar, rel=0.02) and widths[3] > 0 and widths[5] > widths[4]
    boxes = page.locator("#hbm div")
    expect(boxes).to_have_text(["router", "math", "free"])
    width = page.eval_on_selector_all("#hbm div", "all => all.map(each => each.getBoundingClientRect().width)")
    assert width[1] / sum(width) == pytest.approx(100 / 230, rel=0.05)
    page.select_option("#model", "samba-coe")
    page.click("#send")
    expect(page.locator("#bars li")).to_have_count(2, timeout=30_000)
    expect(page.locator("#who")).to_contain_text("router: ")
    assert complaints == []


def test_an_expert_is_brought_in_ahead(opened: tuple[Page, Service, list[str]]):
    page, service, complaints = opened
    page.click("#prefetch button:text('sql')")
    expect(page.locator("#hbm .fresh, #hbm .trained")).to_have_text(["sql"])
    assert complaints == [] and service.engine.node.resident == {"sql"}


def test_errors_are_shown_and_an_answer_can_be_stopped(opened: tuple[Page, Service, list[str]]):
    page, service, _ = opened
    page.fill("#prompt", "one two " * 200)
    page.click("#send")
    expect(page.locator("#error")).to_contain_text("224 tokens at most")
    expect(page.locator("#send")).to_be_enabled()
    held = threading.Event()
    service.engine.between(lambda: held.wait(60))
    page.fill("#prompt", "one two")
    page.click("#send")
    wait_for(lambda: service.engine.waiting == 1)
    wish = service.engine._waiting[0]
    page.click("#stop")
    expect(page.locator("#error")).to_have_text("stopped")
    expect(page.locator("#send")).to_be_enabled()
    wait_for(lambda: wish.is_given_up)
    held.set()
    service.engine.between(lambda: None).result(60)
    assert service.engine.node.resident == frozenset()


def test_nothing_that_is_written_is_taken_for_html(opened: tuple[Page, Service, list[str]]):
    page, _, complaints = opened
    page.fill("#prompt", "<img src=x onerror=alert(1)>")
    page.click("#send")
    expect(page.locator("#bars li")).to_have_count(1, timeout=30_000)
    assert page.locator("img").count() == 0 and complaints == []
