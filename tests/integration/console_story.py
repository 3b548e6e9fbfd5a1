"""What a reader of the console does, step by step, by what they see: labels, buttons and links.

Each step is told in the reader's language, so the same story runs in every one. With `keys_only`
nothing is clicked: the reader goes from one thing to the next with Tab, and whatever has the focus
must show it. This module knows pages by their words, and by the ids of what they show to be copied.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from proxy.edge.console.languages import load
from tests.integration.browser import Visitor

TABS_MAX = 150
PROGRAM_SECONDS_MAX = 60
TRANSLATORS = load()
IS_FOCUSED = "element => element === document.activeElement"
SHOWS_FOCUS = """() => {
    const element = document.activeElement;
    if (!element || element === document.body) return "";
    if (!element.matches(":focus")) return "";  // a part of it that the browser draws itself
    const label = element.labels && element.labels[0];
    const drawn = (one) => {
        const seen = getComputedStyle(one);
        return (seen.outlineStyle !== "none" && parseFloat(seen.outlineWidth) >= 1)
            || seen.boxShadow !== "none";
    };
    const shown = drawn(element) || (label && drawn(label));
    const box = (label && element.classList.contains("unseen") ? label : element)
        .getBoundingClientRect();
    const inside = box.bottom > 0 && box.top < innerHeight && box.right > 0;
    return shown && inside ? "" : element.outerHTML.slice(0, 200);
}"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    status: int
    output: str
    errors: str


@dataclass(slots=True)
class Story:
    """One reader; see the module docstring."""

    reader: Visitor
    language: str = "en"
    keys_only: bool = False

    @property
    def page(self) -> Page:
        """Their page."""
        return self.reader.page

    def say(self, text: str, **parameters: object) -> str:
        """A text of ours in the reader's language."""
        return str(TRANSLATORS[self.language](text, **parameters))

    def button(self, text: str) -> Locator:
        """The button that says so."""
        return self.page.get_by_role("button", name=self.say(text), exact=True)

    def link(self, text: str) -> Locator:
        """The first link of the page's content that says so."""
        content = self.page.get_by_role("main")
        return content.get_by_role("link", name=self.say(text), exact=True).first

    def field(self, text: str) -> Locator:
        """The field with this label, whatever stands behind it."""
        label, more = re.escape(self.say(text)), re.escape(self.say("optional"))
        return self.page.get_by_label(re.compile(rf"^{label}(?:\s+{more})?\s*$"))

    def press(self, target: Locator) -> None:
        """Click it, or go there and press Enter."""
        if self.keys_only:
            self.tab_to(target)
            self.page.keyboard.press("Enter")
        else:
            target.click()

    def write(self, target: Locator, text: str) -> None:
        """Fill a field in."""
        if self.keys_only:
            self.tab_to(target)
            self.page.keyboard.press("Control+a")
            self.page.keyboard.type(text)
        else:
            target.fill(text)

    def choose_tab(self, text: str) -> None:
        """Choose one of the tabs of a page, which are radio buttons."""
        wanted = self.page.get_by_role("radio", name=self.say(text), exact=True)
        if not self.keys_only:
            self.page.locator("label", has_text=re.compile(f"^{re.escape(text)}$")).first.click()
        else:
            self.tab_to(self.page.get_by_role("radio").and_(self.page.locator(":checked")).first)
            for _ in range(TABS_MAX):
                if wanted.is_checked():
                    break
                self.page.keyboard.press("ArrowRight")
        expect(wanted).to_be_checked()

    def tab_to(self, target: Locator) -> None:
        """Press Tab until it has the focus; everything on the way must show that it has it."""
        expect(target).to_be_visible()
        for _ in range(TABS_MAX):
            self.page.keyboard.press("Tab")
            hidden = self.page.evaluate(SHOWS_FOCUS)
            assert not hidden, f"the focus is not seen on {hidden}"
            if target.evaluate(IS_FOCUSED):
                return
        raise AssertionError(f"{TABS_MAX} times Tab do not lead to {target}")

    def go_by_menu(self, text: str) -> None:
        """Open a page by the menu, which a phone shows only when it is asked for."""
        menu = self.page.get_by_role("navigation", name=self.say("Main"))
        if not menu.is_visible():
            self.press(self.button("Menu"))
        self.press(menu.get_by_role("link", name=self.say(text), exact=True))
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()

    def copy(self, beside: Locator) -> str:
        """Press the button that copies, in the part of the page `beside`; what was copied."""
        self.press(beside.locator("[data-copy]"))
        expect(beside.locator("[data-copy]")).to_have_text(self.say("Copied"))
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    @contextmanager
    def without_reload(self) -> Iterator[None]:
        """Within the block the page must stay the one it is."""
        self.page.evaluate("window.stayed = true")
        yield
        assert self.page.evaluate("window.stayed === true"), "the page was loaded again"

    def register(self, email: str, password: str) -> None:
        """Come as a stranger and make an account; afterwards they are signed in."""
        self.reader.go("/")
        self.press(self.link("Create an account"))
        self.write(self.field("E-mail"), email)
        self.write(self.field("Password"), password)
        self.press(self.button("Create an account"))
        expect(self.button("Your account")).to_be_visible()

    def sign_in(self, email: str, password: str) -> None:
        """Come back with the password."""
        self.reader.go("/login")
        self.write(self.field("E-mail"), email)
        self.write(self.field("Password"), password)
        self.press(self.button("Sign in"))
        expect(self.button("Your account")).to_be_visible()

    def redeem(self, code: str, shown: str) -> None:
        """Top the wallet up with a code; the balance is `shown` then."""
        self.go_by_menu("Wallet")
        self.write(self.field("Code"), code)
        self.press(self.button("Redeem"))
        expect(self.page.locator(".stat").first).to_contain_text(shown)

    def make_key(self, name: str) -> str:
        """Create a key; its secret, as it is shown this once."""
        self.go_by_menu("Keys")
        fresh = self.link("New key").or_(self.link("Make a key")).first
        self.press(fresh)
        self.write(self.field("Name"), name)
        self.press(self.button("Make the key"))
        secret = self.page.locator("#secret")
        expect(secret).to_be_visible()
        return secret.inner_text()

    def copy_example(self, tab: str = "Python SDK") -> str:
        """Copy the program that the page of a new key shows."""
        self.choose_tab(tab)
        panel = self.page.locator(".tabset-panel").filter(visible=True)
        return self.copy(panel)


def run_program(program: str, secret: str, folder: Path, *arguments: str) -> Ended:
    """Run a program of a page as its reader would: saved, with the key in the environment."""
    file = folder / "example.py"
    file.write_text(program)
    environment = {"PATH": os.environ["PATH"], "SLUICE_API_KEY": secret, "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, str(file), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=PROGRAM_SECONDS_MAX,
        text=True,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
