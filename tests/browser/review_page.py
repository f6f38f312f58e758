"""The Review tab as one reviewer uses it: by keyboard, but for choosing a batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

# What must not be known before a verdict: which side is whose, what the models are called, how far apart they are.
SEALED = ("candidate", "Coarse", "coarse", "W4A16", "kl_", "a_is", "embedded/", "nats")
VERDICT_KEYS = {"a": "1", "b": "2", "tie": "3", "both_bad": "4"}
_MOST_TABS = 60


class ReviewPage:
    """The Review tab of one reviewer; remembers its errors."""

    def __init__(self, page: Page, url: str, name: str) -> None:
        self.page, self.url, self.name = page, url, name
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, batch: str = "b1") -> None:
        """The page, at a batch, under the reviewer's name."""
        self.page.goto(self.url)
        self.page.get_by_role("tab", name="Review").click()
        self.choose(batch)
        if self.page.get_by_label("Your name").count():
            self.page.get_by_label("Your name").fill(self.name)
            self.page.keyboard.press("Enter")
        expect(self.prompt).to_be_visible()

    def choose(self, batch: str) -> None:
        self.page.locator(f"[data-batch='{batch}'] button").first.click()

    def go_to_tab(self) -> None:
        """To the Review tab by the Tab key alone."""
        tab = self.page.get_by_role("tab", name="Review")
        expect(tab).to_be_visible()
        for _ in range(_MOST_TABS):
            self.page.keyboard.press("Tab")
            if tab.evaluate("(node) => node === document.activeElement"):
                self.page.keyboard.press("Enter")
                return
        raise AssertionError(f"the Review tab is not reached by {_MOST_TABS} Tab keys")

    # ---- a new batch ----

    def load_batch(self, *files: Path, candidates: Sequence[str] = (), **fields: str) -> str:
        """Make a batch from the page's form; its id. ``fields``: label → text, such as Name or Prompts."""
        self.page.get_by_role("button", name="New batch").click()
        dialog = self.page.get_by_role("dialog", name="New batch")
        for label, text in fields.items():
            dialog.get_by_label(label.replace("_", " "), exact=True).fill(text)
        dialog.get_by_label("Files").set_input_files(files)
        expect(dialog.get_by_role("status")).to_contain_text(f"{files[-1].name} is loaded")
        for box in dialog.locator(".dt-candidates input").all() if candidates else ():
            box.set_checked(box.input_value() in candidates)
        known = set(self.batches())
        dialog.get_by_role("button", name="Start").click()
        expect(dialog).to_have_count(0)  # it closes by itself when every row could be used
        (made,) = set(self.batches()) - known
        return made

    def batches(self) -> list[str]:
        return [str(line.get_attribute("data-batch")) for line in self.page.locator(".dt-batch").all()]

    def batch(self, batch: str) -> Locator:
        return self.page.locator(f"[data-batch='{batch}']")

    # ---- the item at hand ----

    @property
    def prompt(self) -> Locator:
        return self.page.locator(".dt-review-prompt")

    @property
    def item(self) -> Locator:
        return self.page.locator("#dt-review-desk [data-item]")

    @property
    def item_id(self) -> str:
        return str(self.item.get_attribute("data-item"))

    @property
    def note(self) -> Locator:
        return self.page.get_by_label("Note", exact=True)

    def reference(self) -> str:
        return self.page.locator(".dt-reference").inner_text()

    def text(self, side: str) -> str:
        return self.page.locator(f"[data-side={side}] .dt-review-words").inner_text()

    def settle(self) -> None:
        """Until nothing is on its way to the server."""
        self.page.locator(".dt-busy").wait_for(state="detached")

    # ---- judging, by keyboard alone ----

    def mark(self, verdict: str, **right: bool) -> None:
        """The verdict, and of answers ``a`` and ``b`` whether they are right."""
        expect(self.item).to_be_visible()
        self.page.keyboard.press(VERDICT_KEYS[verdict])
        expect(self.page.locator(f"[data-focus=v-{verdict}]")).to_have_attribute("aria-pressed", "true")
        for side, is_right in right.items():
            for _ in range(1 if is_right else 2):
                self.page.keyboard.press(side)
            said = self.page.locator(f"[data-side={side}] [data-focus=right-{side}]")
            expect(said).to_contain_text("is right" if is_right else "is wrong")

    def claim(self, side: str, kind: int, severity: int) -> dict[str, str]:
        """Say what is wrong in an answer, the kind and severity by steps down their lists; what the sheet then held."""
        keyboard, dialog = self.page.keyboard, self.page.get_by_role("dialog")
        keyboard.press("e")
        expect(dialog.get_by_label("Kind of error")).to_be_focused()
        if side == "b":
            keyboard.press("Shift+Tab")
            keyboard.press("ArrowDown")
            keyboard.press("Tab")
        for _ in range(kind):
            keyboard.press("ArrowDown")
        keyboard.press("Tab")
        for _ in range(severity):
            keyboard.press("ArrowDown")
        labels = {"answer": "Which answer", "error_type": "Kind of error", "severity": "Severity"}
        said = {name: dialog.get_by_label(label).input_value() for name, label in labels.items()}
        said["text"] = dialog.get_by_label("Words in the answer").input_value()
        keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        return said

    def write_note(self, text: str) -> None:
        self.page.keyboard.press("m")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Escape")

    def save(self) -> None:
        """Submit, and wait for the next item or the end."""
        before = self.item_id
        self.page.keyboard.press("Enter")
        expect(self.page.locator(f"[data-item='{before}']")).to_have_count(0)
        self.settle()

    def judge(self) -> str:
        """Judge an item whose texts say which side wrote them: the base is right. The item's prompt."""
        self.settle()
        before = self.prompt.inner_text()
        right = "a" if self.text("a").startswith("from base") else "b"
        self.mark(right, **{right: True})
        self.save()
        return before

    # ---- the seal ----

    def leaks(self) -> list[str]:
        """What of the seal is in the tab or in the page's memory of it; the two answers may say what they like."""
        desk = self.page.evaluate(
            """() => { const copy = document.querySelector("#dt-review").cloneNode(true);
                       copy.querySelectorAll(".dt-review-words, .dt-queue").forEach((part) => part.remove());
                       return copy.innerHTML; }"""
        )
        assert "A is better" in desk
        memory = self.page.evaluate("() => JSON.stringify(window.diptych.review)")
        return [secret for secret in SEALED if secret in desk or secret in memory]


def leaks_of(value: dict[str, Any]) -> list[str]:
    """What of the seal is in a desk that the server sent, but for the two answers; nothing where it was unsealed."""
    item = value.get("item")
    if item and item.get("verdict"):
        return []
    rest = {**value, "item": {**item, "answers": None} if item else None}
    # Whole words: an item's id or a file's name may hold the letters of one.
    return [secret for secret in SEALED if re.search(rf"(?<![a-z]){re.escape(secret)}", str(rest))]
