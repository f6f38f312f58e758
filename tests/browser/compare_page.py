"""The Compare tab as a person uses it: what to click, what stands where, and when an answer is over."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, Request, expect

ANSWER_LIMIT_MS = 60_000
_ANY = re.compile(r".")
# Each of Gradio's events by the names of what sets it off.
_NAMED = """(events) => events.map((number) => window.gradio_config.dependencies.find((one) => one.id === number)
    ?.targets.map(([, name]) => name).join("+") ?? number).join(" ")"""


class ComparePage:
    """One page of the app; remembers its errors and its requests."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.events: list[int] = []  # numbers of Gradio's events that the page sent
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        self.requests.append(request.url)
        if "/queue/join" in request.url:
            self.events.append(int(request.post_data_json["fn_index"]))

    def open(self, trace: str = "") -> None:
        """The page, complete."""
        self.page.goto(f"{self.url}?trace={trace}" if trace else self.url)
        self.wait_loaded()

    def wait_loaded(self) -> None:
        expect(self.page.locator(".dt-col-0 .dt-title b")).to_have_text("Base")
        expect(self.page.locator("#dt-composer textarea")).to_be_visible()

    def reload(self) -> None:
        self.page.reload()
        self.wait_loaded()

    def foreign_requests(self) -> list[str]:
        """Requests to anywhere but the app."""
        own = urlsplit(self.url).netloc
        return [
            url for url in self.requests if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own
        ]

    # ---- asking ----

    @property
    def prompt(self) -> Locator:
        return self.page.locator("#dt-composer textarea")

    @property
    def ask_button(self) -> Locator:
        return self.page.locator(".dt-go:not(.dt-stop)")

    @property
    def trouble(self) -> Locator:
        """What the composer complains about."""
        return self.page.locator(".dt-composer-trouble")

    @property
    def thumbs(self) -> Locator:
        return self.page.locator(".dt-thumb img")

    def choose_files(self, *files: Path | dict[str, object]) -> None:
        """Choose files in the picture dialog."""
        self.page.locator("#dt-composer input[type=file]").set_input_files(list(files))  # type: ignore[arg-type]

    def attach(self, *files: Path | dict[str, object]) -> None:
        """Choose good pictures and wait until they are there."""
        before = self.thumbs.count()
        self.choose_files(*files)
        expect(self.thumbs).to_have_count(before + len(files))
        expect(self.ask_button).to_be_enabled()

    def send(self, prompt: str) -> None:
        """Ask; doesn't wait."""
        self.prompt.fill(prompt)
        self.prompt.press("Enter")

    def ask(self, prompt: str, columns: int = 2) -> None:
        """Ask and wait until every column's answer is over."""
        turns = self.turns(0).count()
        self.send(prompt)
        for position in range(columns):
            expect(self.turns(position)).to_have_count(turns + 1, timeout=ANSWER_LIMIT_MS)
            self.wait_over(position)

    def start_anew(self) -> None:
        """A new conversation: the columns are empty at once."""
        self.page.get_by_role("button", name="New", exact=True).click()
        for position in range(2):
            expect(self.turns(position)).to_have_count(0, timeout=1000)
        assert self.trace_id() == ""

    def wait_over(self, position: int) -> None:
        """Until the newest answer of a column is over."""
        expect(self.last(position, ".dt-stats")).to_have_text(_ANY, timeout=ANSWER_LIMIT_MS)

    # ---- reading ----

    def column(self, position: int) -> Locator:
        return self.page.locator(f".dt-col-{position}")

    def turns(self, position: int) -> Locator:
        return self.column(position).locator(".dt-turn")

    def last(self, position: int, part: str) -> Locator:
        """A part of a column's newest turn."""
        return self.turns(position).last.locator(part)

    def answer(self, position: int) -> str:
        """Text of a column's newest answer."""
        return self.last(position, ".dt-answer").inner_text().strip()

    def stats(self, position: int) -> str:
        return self.last(position, ".dt-stats").inner_text()

    def click(self, position: int, label: str) -> None:
        """Click one of the newest turn's small buttons."""
        self.last(position, ".dt-actions").get_by_role("button", name=label, exact=True).click()

    def siblings(self, position: int) -> Locator:
        return self.last(position, ".dt-siblings")

    @property
    def facts(self) -> Locator:
        """What stands under the picture."""
        return self.page.locator(".dt-facts")

    @property
    def alarms(self) -> Locator:
        return self.page.locator(".dt-alarm")

    def trace_id(self) -> str:
        """The turn that the address names."""
        return parse_qs(urlsplit(self.page.url).query).get("trace", [""])[0]

    def describe(self) -> str:
        """The state of the page, for the report of a failed test."""
        columns = "Object.values(window.diptych.state.columns).map((c) => [c.made_us, c.value])"
        facts = {
            "address": self.page.url,
            "errors": self.errors,
            "prompt": self.prompt.input_value(),
            "trouble": self.trouble.inner_text() if self.trouble.count() else "",
            "columns": self.page.evaluate(f"JSON.stringify({columns})")[:4000],
            "requests": [url for url in self.requests if "/gradio_api/" in url][-12:],
            "events": self.page.evaluate(_NAMED, self.events[-40:]),
        }
        return "\n".join(f"{name}: {value}" for name, value in facts.items())

    # ---- columns and settings ----

    def choose_engine(self, position: int, label: str, limit_ms: float | None = None) -> None:
        """Put another engine into a column and wait until it is ready."""
        box = self.column(position).locator(".dt-engine input")
        box.click()
        box.fill(label)
        # The list of the box before may still be closing; the newest one stands last.
        self.page.get_by_role("option", name=label).last.click()
        expect(self.column(position)).to_have_attribute("data-state", "ready", timeout=limit_ms)

    def choose_scripted(self) -> None:
        """Both columns on scripted engines: the second one is as slow as the test says."""
        self.choose_engine(0, "Scripted base")
        self.choose_engine(1, "Scripted slow")

    def set_own(self, position: int, **values: str) -> None:
        """Fill in a column's own parameters, by label with underscores for blanks."""
        own = self.column(position).locator(".dt-own")
        own.get_by_role("button", name="Own parameters").click()
        for label, value in values.items():
            field = own.get_by_label(label.replace("_", " "))
            expect(field).to_be_visible()
            self._wait_mounted()
            self.type_in(field, value)
        self.page.wait_for_timeout(500)

    def open_settings(self) -> Locator:
        settings = self.page.locator("#dt-settings")
        if not settings.get_by_label("Top-p").first.is_visible():
            settings.get_by_role("button", name="Settings").click()
            expect(settings.get_by_label("Top-p").first).to_be_visible()
            self._wait_mounted()
        return settings

    def type_in(self, field: Locator, text: str) -> None:
        """Key by key, as a person does: Gradio misses a change of a field that it has not yet mounted, not the next."""
        field.fill("")
        field.press_sequentially(text, delay=30)
        field.blur()

    def _wait_mounted(self) -> None:
        # Gradio mounts fields when they are first shown; on a busy machine what is typed at once gets lost.
        self.page.wait_for_timeout(800)
