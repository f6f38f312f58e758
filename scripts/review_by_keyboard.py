"""The whole of Review in one run: real engines, a real browser, a reviewer who only has a keyboard.

    python scripts/review_by_keyboard.py [--questions 400] [--judge 30]

Starts the app, loads a zip of generated pictures with two questions each and their right answers from the page, watches
the embedded base and its coarse candidate answer them, and judges items by the right answer that the page shows, with
an undo and a reload in between. Ends with 1 when the page or the exports hold anything but what was seen and done.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.core.content_tokens import matches  # noqa: E402
from scripts.get_browser import find_browser  # noqa: E402
from scripts.review_batch import CANDIDATE, draw  # noqa: E402
from tests.browser.review_page import ReviewPage, leaks_of  # noqa: E402
from tests.running_app import RunningApp, new_state_dir  # noqa: E402

SEED = "review-by-keyboard"
REVIEWER = "Keyboard"
PER_PICTURE = 2
BATCH_LIMIT_S = 3600.0
PATIENCE_MS = 60_000
CLAIM_EVERY, NOTE_EVERY = 4, 3
VERDICTS = {(True, True): "tie", (True, False): "a", (False, True): "b", (False, False): "both_bad"}
OUTCOMES = {(True, True): "same", (True, False): "regressed", (False, True): "improved", (False, False): "both_wrong"}
# Counts clicks, and tells every message of the server to the page's binding `heard`, whole.
WATCHING = """
const counted = () => sessionStorage.setItem("clicks", 1 + Number(sessionStorage.getItem("clicks")));
addEventListener("pointerdown", counted, true);
const asked = window.fetch;
window.fetch = async (...given) => {
  const answer = await asked(...given);
  if (String(given[0]?.url || given[0]).includes("queue/data")) (async () => {
    const reader = answer.clone().body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      const whole = (text + value).split("\\n\\n");
      text = whole.pop();
      whole.forEach((message) => window.heard(message));
    }
  })().catch(() => {});
  return answer;
};
"""


@dataclass(frozen=True)
class Seen:
    """An item as the reviewer saw it, and what was said of it."""

    item_id: str
    prompt: str
    reference: str
    a: str
    b: str
    claims: tuple[dict[str, str], ...]
    note: str

    @property
    def rights(self) -> tuple[bool, bool]:
        """Whether A and B are right by the right answer on the page."""
        return bool(matches(self.a, self.reference)), bool(matches(self.b, self.reference))


@dataclass
class Work:
    """What a reviewer did, and what went wrong."""

    judged: list[Seen] = field(default_factory=list)
    withdrawn: list[Seen] = field(default_factory=list)
    to_next_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def check(self, holds: bool, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(what)


# ---- the batch ------------------------------------------------------------------------------------------------------


def make_zip(folder: Path, pictures: int) -> tuple[Path, dict[str, dict[str, str]]]:
    """Pictures and their table in one zip; the table by id."""
    source = folder / "source"
    source.mkdir()
    draw(source, pictures, PER_PICTURE, SEED)
    packed = folder / "pictures.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.iterdir()):
            archive.write(path, path.name)
    with (source / "items.csv").open(newline="", encoding="utf-8") as file:
        return packed, {row["id"]: row for row in csv.DictReader(file)}


def load(page: Page, url: str, packed: Path, questions: int, work: Work) -> str:
    """Load the zip from the page and watch it until every question is answered; the batch's id."""
    lead = ReviewPage(page, url, "Lead")
    page.goto(url)
    page.get_by_role("tab", name="Review").click()
    begun = time.monotonic()
    batch = lead.load_batch(packed, candidates=[CANDIDATE], Name="Generated pictures")
    print(f"loaded, {packed.stat().st_size / 1e3:.0f} kB, after {time.monotonic() - begun:.1f} s", flush=True)
    line, counts, first_s = lead.batch(batch), [0], 0.0
    while line.get_attribute("data-state") == "RUNNING" and time.monotonic() - begun < BATCH_LIMIT_S:
        words = line.locator("p").first.inner_text()
        if line.get_attribute("data-state") == "RUNNING" and (now := int(words.split()[0])) != counts[-1]:
            first_s = first_s or time.monotonic() - begun
            counts.append(now)
            print(f"{time.monotonic() - begun:6.0f} s  {words}", flush=True)
        time.sleep(0.5)
    took = time.monotonic() - begun
    said = line.locator("p").first.inner_text()
    work.check(line.get_attribute("data-state") == "SUCCEEDED", f"the batch ended otherwise: {line.inner_text()}")
    work.check(said == f"{questions} items, {questions} left", f"the page says {said!r} of {questions}")
    work.check(counts == sorted(counts) and len(counts) > 2, f"the page's progress was {counts}")
    work.wrong.extend(lead.errors)
    rate = (questions - counts[1]) / (took - first_s) if len(counts) > 1 else 0.0
    print(f"batch: {took:.0f} s with the engines' start, {rate:.2f} items/s from the first answer on", flush=True)
    return batch


# ---- judging --------------------------------------------------------------------------------------------------------


def look(review: ReviewPage) -> Seen:
    """The item at hand."""
    return Seen(
        review.item_id, review.prompt.inner_text(), review.reference(), review.text("a"), review.text("b"), (), ""
    )


def mark(review: ReviewPage, number: int, note: str = "") -> Seen:
    """Say all of the item at hand but submit nothing."""
    seen, claims = look(review), []
    a_right, b_right = seen.rights
    review.mark(VERDICTS[a_right, b_right], a=a_right, b=b_right)
    wrong = [side for side, right in (("a", a_right), ("b", b_right)) if not right]
    if wrong and number % CLAIM_EVERY == 0:
        claims.append(review.claim(wrong[-1], kind=number % 10, severity=number // CLAIM_EVERY % 2))
    note = note or (f"note {number}: <b>{seen.reference}</b> ${{x}} ü" if number % NOTE_EVERY == 0 else "")
    if note:
        review.write_note(note)
    return Seen(seen.item_id, seen.prompt, seen.reference, seen.a, seen.b, tuple(claims), note)


def save(review: ReviewPage, work: Work, seen: Seen) -> None:
    """Submit and wait for the next item."""
    begun = time.monotonic()
    review.save()
    work.to_next_s.append(time.monotonic() - begun)
    work.judged.append(seen)


def judge(review: ReviewPage, work: Work, count: int) -> None:
    """Judge so many items by keyboard alone, one of them undone, one with the page loaded anew in the middle."""
    review.page.evaluate("() => sessionStorage.setItem('clicks', 0)")
    for number in range(count):
        review.settle()
        seen = mark(review, number, "in the middle" if number == 2 * count // 3 else "")
        if number == 2 * count // 3:
            reload_in_the_middle(review, work, seen)
        save(review, work, seen)
        if number == count // 3:
            review.page.keyboard.press("u")
            expect(review.page.locator(f"[data-item='{seen.item_id}']")).to_be_visible()
            work.withdrawn.append(work.judged.pop())
            work.check(review.text("a") == seen.a, "after the undo the sides are others")
            save(review, work, mark(review, number, "after the undo"))
    clicks = int(review.page.evaluate("() => sessionStorage.getItem('clicks')"))
    work.check(clicks == 0, f"{clicks} clicks of a mouse while judging")


def reload_in_the_middle(review: ReviewPage, work: Work, seen: Seen) -> None:
    """Load the page anew twice: what is not submitted comes back from the browser, then from the server alone."""
    review.page.wait_for_timeout(1500)  # the draft is on its way
    for where in ("the browser", "the server"):
        if where == "the server":
            review.page.evaluate(
                "() => Object.keys(localStorage).filter((name) => name.includes('draft')).forEach((name) => "
                "localStorage.removeItem(name))"
            )
        review.page.reload()
        review.go_to_tab()
        expect(review.prompt).to_be_visible()
        pressed = review.page.locator("[data-focus^=v-][aria-pressed=true]").get_attribute("data-focus")
        said = [review.page.locator(f"[data-focus=right-{side}]").inner_text() for side in ("a", "b")]
        back = (review.item_id, pressed, ["is right" in words for words in said], review.note.input_value())
        meant = (seen.item_id, f"v-{VERDICTS[seen.rights]}", list(seen.rights), seen.note)
        work.check(back == meant, f"after a reload, from {where}: {back} instead of {meant}")
        claims = review.page.locator(".dt-claims p").count()
        work.check(claims == len(seen.claims), f"after a reload, from {where}: {claims} claims")


def check_seal(messages: list[str], work: Work) -> None:
    """Nothing that the server sent of an item before its verdict tells which answer is whose."""
    desks = []
    for message in messages:
        told = json.loads(message.removeprefix("data: "))
        values = (told.get("output") or {}).get("data") or [] if told.get("msg") == "process_completed" else []
        desks += [value for value in values if isinstance(value, dict) and "judged" in value]
    blind = [desk for desk in desks if desk.get("item") and not desk["item"]["verdict"]]
    work.check(len(blind) >= len(work.judged), f"only {len(blind)} desks were heard")
    work.wrong.extend(f"told before the verdict: {leaks_of(desk)}" for desk in blind if leaks_of(desk))
    print(f"seal: {len(blind)} sealed items that the server sent were looked through", flush=True)


# ---- what was stored ------------------------------------------------------------------------------------------------


def check_exports(app: RunningApp, batch: str, table: dict[str, dict[str, str]], work: Work) -> list[dict[str, Any]]:
    """The exports hold what was judged, all of it and nothing else; the rows."""
    wanted = {"reviewer": REVIEWER, "batch": batch}
    with httpx.Client(trust_env=False, base_url=app.url) as http:
        lines = http.get(f"review/export/{batch}.jsonl", params={"reviewer": REVIEWER}).text.splitlines()
        rows = [json.loads(line) for line in lines]
        work.check(rows == app.call("review_export", wanted), "JSONL and /review_export differ")
        work.check(len(rows) == len(work.judged), f"{len(rows)} verdicts of {len(work.judged)}")
        for row, seen in zip(rows, work.judged, strict=False):
            trace = http.get(f"traces/{row['trace_id']}.json").json()["traces"][-1]
            told = {column["role"]: column["answer"]["text"] for column in trace["columns"]}
            compare(row, seen, told, table[row["key"]], work)
    history = app.call("review_export", {**wanted, "history": True})
    gone = [(row["item_id"], row["note"]) for row in history if row["state"] != "current"]
    work.check(gone == [(seen.item_id, seen.note) for seen in work.withdrawn], f"withdrawn: {gone}")
    work.check(len(history) == len(rows) + len(gone), f"{len(history)} verdicts ever")
    check_order(rows, work)
    return rows


def compare(row: dict[str, Any], seen: Seen, told: dict[str, str], asked: dict[str, str], work: Work) -> None:
    """One row of the export against what was seen, what the engines said, and what the generator knows."""
    base, candidate = (seen.a, seen.b) if row["a_is"] == "base" else (seen.b, seen.a)
    rights = bool(matches(base, seen.reference)), bool(matches(candidate, seen.reference))
    claims = [{**claim, "side": row["a_is"] if claim["answer"] == "a" else other(row["a_is"])} for claim in seen.claims]
    meant = {
        "item_id": seen.item_id, "prompt": seen.prompt, "reference": seen.reference, "reviewer": REVIEWER,
        "verdict": VERDICTS[seen.rights], "a_right": seen.rights[0], "b_right": seen.rights[1],
        "base_right": rights[0], "candidate_right": rights[1], "outcome": OUTCOMES[rights], "note": seen.note,
        "base_text": told["base"], "candidate_text": told["candidate"], "candidate_engine": CANDIDATE,
        "tags": asked["tags"].split("|"), "state": "current", "divergence_method": "exact",
    }  # fmt: skip
    for name, value in meant.items():
        work.check(row[name] == value, f"{row['key']}: {name} is {row[name]!r} instead of {value!r}")
    work.check((base, candidate) == (told["base"], told["candidate"]), f"{row['key']}: A was not the {row['a_is']}")
    work.check(
        (asked["prompt"], asked["reference"]) == (seen.prompt, seen.reference), f"{row['key']}: the page asks otherwise"
    )
    kept = [{name: claim[name] for name in claims[0]} for claim in row["claims"]] if claims else row["claims"]
    work.check(kept == claims, f"{row['key']}: claims are {kept} instead of {claims}")


def other(side: str) -> str:
    """Base for candidate and the other way round."""
    return "candidate" if side == "base" else "base"


def check_order(rows: list[dict[str, Any]], work: Work) -> None:
    """Worst first, but for the random slice; what came again had its sides flipped."""
    queue = [row for row in rows if row["round"] == 1 and not row["in_random_slice"]]
    far = [row["divergence_base_to_candidate_nats"] for row in queue]
    work.check(far == sorted(far, reverse=True), f"not the most divergent first: {far}")
    first = {row["item_id"]: row["a_is"] for row in rows if row["round"] == 1}
    for row in rows:
        work.check(row["round"] == 1 or first[row["item_id"]] == other(row["a_is"]), f"{row['key']}: sides not flipped")


def show(review: ReviewPage, rows: list[dict[str, Any]], work: Work) -> None:
    """What the last verdict opened on the page, and the page's own report; then the figures."""
    review.page.keyboard.press("ArrowLeft")
    opened = review.page.locator(".dt-unsealed")
    expect(opened).to_be_visible()
    (last,) = (row for row in rows if row["item_id"] == review.item_id and row["round"] == rows[-1]["round"])
    work.check(f"A was the {last['a_is']}" in opened.inner_text(), f"unsealed: {opened.inner_text()!r}")
    review.page.get_by_role("button", name="Report", exact=True).click()
    report = review.page.locator("#dt-review-report")
    expect(report.get_by_role("heading", name="Agreement")).to_be_visible()
    found = Counter(row["outcome"] for row in rows if row["round"] == 1)
    tables = report.locator("table")
    for line in tables.first.locator("tbody tr").all():
        name, count = (cell.inner_text() for cell in line.locator("th, td").all()[:2])
        work.check(found[name.lower().replace(" ", "_")] == int(count), f"the report counts {count} {name}")
    regressed = report.get_by_role("row", name="Regressed").nth(1).inner_text().split("·")[-1].strip()
    print(f"regressed by the right answers, as the page reports: {regressed}")
    print(f"judged: {len(rows)} verdicts, {dict(found)}, {sum(row['round'] > 1 for row in rows)} of them repeats")
    print(f"A was the base in {sum(row['a_is'] == 'base' for row in rows)} of {len(rows)}")
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    print(f"time per judged item: median {statistics.median(seconds):.1f} s, slowest {max(seconds):.1f} s")
    print(f"from Enter to the next item: median {1000 * statistics.median(work.to_next_s):.0f} ms, "
          f"slowest {1000 * max(work.to_next_s):.0f} ms")  # fmt: skip


def review_in(browser: Browser, app: RunningApp, batch: str, count: int, work: Work) -> ReviewPage:
    """A reviewer's own browser: it has never seen the form that names the models."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    messages: list[str] = []
    page = context.new_page()
    page.expose_function("heard", lambda message: messages.append(message))
    page.add_init_script(WATCHING)
    review = ReviewPage(page, app.url, REVIEWER)
    review.open(batch)
    work.check(review.leaks() == [], f"on the page before the verdict: {review.leaks()}")
    begun = time.monotonic()
    judge(review, work, count)
    print(f"judging: {count} items in {time.monotonic() - begun:.0f} s by keyboard alone", flush=True)
    check_seal(messages, work)
    return review


def run(app: RunningApp, browser: Browser, given: argparse.Namespace) -> Work:
    """The whole of it."""
    work = Work()
    with tempfile.TemporaryDirectory(prefix="dt-review-", dir=Path.home()) as folder:
        print(f"page after {app.wait_for_page():.1f} s", flush=True)
        packed, table = make_zip(Path(folder), given.questions // PER_PICTURE)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        batch = load(page, app.url, packed, len(table), work)
        page.close()
        review = review_in(browser, app, batch, min(given.judge, len(table)), work)
        show(review, check_exports(app, batch, table, work), work)
        work.wrong.extend(review.errors)
    return work


def main() -> int:
    """0 when the page and the exports hold what was seen and done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=400, help="two to a picture")
    parser.add_argument("--judge", type=int, default=30, help="how many of them the reviewer judges")
    given = parser.parse_args()
    executable = find_browser()
    if executable is None:
        raise SystemExit("There is no Chromium; see scripts/get_browser.py.")
    expect.set_options(timeout=PATIENCE_MS)
    app = RunningApp(new_state_dir(), "--pair", "embedded", environment={"DIPTYCH_START_ENGINES": "false"}).start()
    try:
        with sync_playwright() as playwright:
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=executable, args=sandbox)
            work = run(app, browser, given)
            browser.close()
    finally:
        app.close()
    print("\n".join(f"DIFFERS: {what}" for what in work.wrong) or "nothing differs")
    return 1 if work.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
