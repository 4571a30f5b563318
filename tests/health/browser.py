"""Debian's Chromium, driven by Playwright: one page of a browser of its own, and what a person would complain about."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, ViewportSize, async_playwright, expect

DEADLINE_MILLISECONDS = 30_000
PHONE = ViewportSize(width=360, height=740)
DESK = ViewportSize(width=1440, height=1100)
CHROMIUM = shutil.which("chromium")

OVERFLOW = """() => [...document.querySelectorAll('body *:not(svg *)')]
    .filter((each) => each.getBoundingClientRect().right > innerWidth + 0.5 && !each.closest('.unseen, thead, .skip'))
    .map((each) => `${each.nodeName} ${each.id} ${each.className} ${each.textContent.slice(0, 60)}`)"""
"""What reaches beyond the right edge of the window."""

CONTRAST_MIN = 4.5
"""WCAG 2.2, 1.4.3: of text in the usual size."""
FAINT = """(least) => {
    const parse = (color) => {
        const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
        return { rgb: [r, g, b], a };
    };
    const over = (top, below) => top.rgb.map((part, at) => part * top.a + below[at] * (1 - top.a));
    const ground = (element) => {
        if (element === null) return [255, 255, 255];
        const own = parse(getComputedStyle(element).backgroundColor);
        return own.a === 1 ? own.rgb : over(own, ground(element.parentElement));
    };
    const light = (rgb) => {
        const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = rgb.map((part) => linear(part / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const faint = [];
    for (const each of document.querySelectorAll('body *:not(svg *):not(noscript):not(option)')) {
        const own = [...each.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
        if (!own || !each.checkVisibility() || each.closest('.unseen, .skip')) continue;
        const ink = parse(getComputedStyle(each).color), paper = ground(each);
        const [a, b] = [light(over(ink, paper)), light(paper)].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < least) faint.push(`${ratio.toFixed(2)} ${each.nodeName}: ${each.textContent.slice(0, 40)}`);
    }
    return faint;
}"""
"""Text that stands out too little from what is behind it."""


@asynccontextmanager
async def opened(
    url: str, *, dark: bool = False, size: ViewportSize = DESK, scale: float = 1.0
) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page, live, and what it wrote to its console, threw, or asked of another host."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            context = await browser.new_context(
                viewport=size,
                color_scheme="dark" if dark else "light",
                device_scale_factor=scale,
                locale="en-GB",
                timezone_id="UTC",
            )
            context.set_default_timeout(DEADLINE_MILLISECONDS)
            page = await context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            origin = url.split("/", 3)[2]
            page.on("request", lambda asked: None if f"//{origin}/" in asked.url else complaints.append(asked.url))
            await page.goto(url)
            await shows(page, "#connection", "live")
            yield page, complaints
        finally:
            await browser.close()


async def shows(page: Page, selector: str, *words: str) -> None:
    """Waits until an element contains all the words."""
    for each in words:
        await expect(page.locator(selector)).to_contain_text(each, timeout=DEADLINE_MILLISECONDS)


async def lacks(page: Page, selector: str, *words: str) -> None:
    """Waits until an element contains none of the words."""
    for each in words:
        await expect(page.locator(selector)).not_to_contain_text(each, timeout=DEADLINE_MILLISECONDS)
