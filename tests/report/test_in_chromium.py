"""The report in a browser: untrusted text stays text, and everything can be reached and read."""

from dataclasses import replace

import pandas as pd
import pytest

import workbench as wb

HOSTILE = {
    "script": "<script>document.title = 'pwned'</script>"
    "<img src=x onerror=\"document.title='pwned'\">",
    "ending": '</script><script>document.title="pwned"</script>{"a": \'b\'}',
    "entity": "&lt;b&gt; {{ 7 * 7 }} ${7} \u2028 \u0000 \\u003c",
    "backwards": "\u202eevil \u05d0\u05d1\u05d2 \u2067 unclosed",
    "long": "x" * 10_000,
    "newlines": "\n".join(["line"] * 300),
}


@pytest.fixture(scope="module")
def hostile(small_run, tmp_path_factory):
    """A run whose prompts, replies, ids, names and reasons try to be more than text."""
    rows = [
        {
            "prompt_set": "harmful",
            "condition": condition,
            "id": f"{name} <i>",
            "category": "<b>bold</b>",
            "prompt": text,
            "reply": text[::-1] if name == "backwards" else text,
            "verdict": "refused",
        }
        for name, text in HOSTILE.items()
        for condition in ("plain", "ablated")
    ]
    many = [
        {**rows[0], "id": f"row {index}", "condition": condition, "prompt": f"prompt {index}"}
        for index in range(60)
        for condition in ("plain", "ablated")
    ]
    study = replace(small_run.study, model="<script>x</script>\u202e", system=HOSTILE["ending"])
    run = replace(
        small_run,
        study=study,
        replies=pd.DataFrame(rows + many),
        skipped={"heads": HOSTILE["script"]},
    )
    return run, wb.write_report(run, tmp_path_factory.mktemp("hostile") / "page.html")


@pytest.fixture
def opened(chromium, hostile):
    """The page, drawn, with everything that it complained of or asked for."""
    page = chromium.new_page(viewport={"width": 1200, "height": 900})
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else page.complaints.append(request.url)
        ),
    )
    page.goto(hostile[1].as_uri())
    page.wait_for_selector("html[data-ready]", timeout=120_000)
    yield page
    page.close()


def cells(page, column):
    return page.eval_on_selector_all(
        f"#replies tbody tr td:nth-child({column}) bdi", "all => all.map(e => e.textContent)"
    )


def test_untrusted_text_is_text(opened, hostile):
    assert opened.complaints == []
    assert "pwned" not in opened.title() and opened.title().startswith("Refusal in <script>")
    shown = cells(opened, 2)
    for name, text in HOSTILE.items():
        expected = f"{text[:600]} …" if len(text) > 600 else text
        assert expected in shown, name
    assert (
        opened.locator(
            "main img, main iframe, #replies i, #replies b, #replies script[src]"
        ).count()
        == 0
    )
    assert HOSTILE["script"] in opened.locator("#skipped bdi").all_text_contents()
    assert HOSTILE["ending"] in opened.locator("#provenance").text_content()


def test_right_to_left_text_ends_where_it_stands(opened):
    bdi = opened.locator("#replies tbody bdi", has_text="evil").first
    assert bdi.evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"
    assert bdi.get_attribute("dir") == "auto"


def test_a_long_line_wraps_and_is_shown_whole_on_demand(opened):
    width = opened.evaluate("document.documentElement.scrollWidth")
    assert width <= 1200
    button = opened.locator("#replies tbody button.more").first
    assert "10,000" in button.text_content()
    button.focus()
    opened.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert HOSTILE["long"] in cells(opened, 2)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 1200


def test_tables_are_searched_filtered_and_turned_by_keyboard(opened, hostile):
    status = opened.locator('[data-status="replies"]')
    total = len(HOSTILE) + 60
    assert status.text_content() == f"Rows 1 to 20 of {total}."
    next_page = opened.locator("#replies").get_by_role("button", name="Next")
    next_page.focus()
    opened.keyboard.press("Enter")
    assert status.text_content() == f"Rows 21 to 40 of {total}."
    opened.locator('#replies input[type="search"]').focus()
    opened.keyboard.type("PROMPT 59")
    assert status.text_content() == f"Rows 1 to 1 of 1 found, out of {total}."
    assert cells(opened, 2) == ["prompt 59"]
    opened.keyboard.type(" <nothing>")
    assert status.text_content() == f"No row of {total} matches."


def test_the_first_key_reaches_the_skip_link(opened):
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "main"


def test_every_figure_is_drawn_and_fits_a_narrow_screen(opened):
    plots = opened.locator(".plot").count()
    assert plots >= 3
    assert opened.locator(".plot:has(.main-svg)").count() == plots
    opened.set_viewport_size({"width": 400, "height": 800})
    # plotly follows a new width after a while.
    opened.wait_for_function(
        """() => [...document.querySelectorAll('.plot')].every((plot) =>
            plot.querySelector('.main-svg').clientWidth <= plot.clientWidth)"""
    )
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    assert opened.complaints == []


def test_on_paper_figures_fit_and_tables_say_what_is_left_out(opened):
    pdf = opened.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    opened.emulate_media(media="print")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    opened.wait_for_timeout(500)
    widths = opened.eval_on_selector_all(".main-svg", "all => all.map(e => e.clientWidth)")
    assert max(widths) <= 700
    assert (
        "The others are in the page itself"
        in opened.locator('[data-status="replies"]').text_content()
    )
    assert opened.locator("#replies tbody tr").count() == 60
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.locator("#replies tbody tr").count() == 20
    assert opened.complaints == []


def luminance(colour):
    channels = [value / 255 for value in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_from_its_ground(opened):
    pairs = opened.evaluate(
        """() => [...document.querySelectorAll('body *')].filter((e) =>
            [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) &&
            e.getClientRects().length && !e.closest('svg') && !e.disabled &&
            !['SCRIPT', 'STYLE'].includes(e.tagName)).map((e) => {
            const parse = (c) => c.match(/[\\d.]+/g).map(Number);
            let ground = e;
            while (ground && parse(getComputedStyle(ground).backgroundColor)[3] === 0)
              ground = ground.parentElement;
            const back = ground ? parse(getComputedStyle(ground).backgroundColor) : [255, 255, 255];
            return [parse(getComputedStyle(e).color).slice(0, 3), back.slice(0, 3), e.className];
        })"""
    )
    assert len(pairs) > 50
    for colour, ground, name in pairs:
        light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, colour, ground)
