"""Review batches of generated pictures, answered by the real embedded engines.

``python scripts/review_batch.py bundle`` makes assets/review/: the small batch that a fresh installation has.
``python scripts/review_batch.py curve`` asks 200 pictures two questions each and prints the coverage curve: does the
order of divergence find the regressions early? Base right and candidate wrong are known from the generator's answers.
Both take minutes on a CPU and start two real engines in a state folder of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "embedded")]

from pictures import draw_scene, paint  # noqa: E402
from questions import ask  # noqa: E402

from components.core.reviews import Batch, BatchState, Item  # noqa: E402
from components.review.bundled import BATCH_ID, FILE  # noqa: E402
from components.review.requests import NewBatch  # noqa: E402
from components.services import Services, build_services  # noqa: E402
from components.settings import Settings  # noqa: E402

TARGET = ROOT / "assets" / "review"
CANDIDATE = "embedded/coarse"


def draw(folder: Path, pictures: int, prompts: int, seed: str) -> None:
    """Pictures with a table of questions; no picture of training or of the held-out set has these seeds."""
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "image", "prompt", "reference", "tags"])
        for number in range(pictures):
            rng = random.Random(f"{seed}:{number}")
            scene = draw_scene(rng)
            name = f"{scene.kind}-{number:03}.png"
            paint(scene).save(folder / name)
            asked: set[str] = set()
            while len(asked) < prompts:
                question = ask(scene, rng)
                if question.text not in asked:
                    asked.add(question.text)
                    row = [f"{number:03}-{len(asked)}", name, question.text, question.answer]
                    table.writerow([*row, f"{scene.kind}|{question.kind}"])


async def answer(services: Services, folder: Path, name: str) -> Batch:
    """The batch, once every question has been answered."""
    wish = NewBatch(
        name=name, upload="", folder=str(folder), prompts=(), base="embedded/base", candidates=(CANDIDATE,), system="",
        max_tokens=None, overlap=0.0,
    )  # fmt: skip
    async with services.running():
        await services.review.ready()
        created = await asyncio.to_thread(services.review.create, wish, "")
        if created.batch is None:
            raise SystemExit(f"no batch: {created.faults}")
        services.review.runner.wake()
        while True:
            await asyncio.sleep(2)
            batch = services.review.reviews.batch(created.batch.id)
            progress = services.review.reviews.progress(batch.id)
            print(f"{progress.answered} of {progress.items} answered, {progress.failed} failed", flush=True)
            if batch.state is not BatchState.RUNNING:
                if batch.state is not BatchState.SUCCEEDED:
                    raise SystemExit(batch.message)
                (folder / "report.json").write_text(json.dumps(services.review.report(batch.id), indent=1))
                if name == "bundle":
                    dump(services, batch)
                return batch


def dump(services: Services, batch: Batch) -> None:
    """Everything of the batch as one file, with the pictures as they were drawn."""
    items = list(services.review.reviews.every_item(batch.id))
    shown = batch.model_copy(update={"id": BATCH_ID, "name": "A first look"})
    lines = [shown.model_dump_json(), *(line(services, item) for item in items)]
    TARGET.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(TARGET / FILE, "wb", compresslevel=9, mtime=0) as file:
        file.write("\n".join(lines).encode())


def line(services: Services, item: Item) -> str:
    """One question with its turn and its score, as they were stored."""
    trace = services.traces.conversation(item.trace_id)[-1]
    (score,) = services.scores.of_turn(item.trace_id)
    if item.answered is None:
        raise SystemExit(f"not answered: {item.failure}")
    records = {"question": item.question, "trace": trace, "score": score, "answered": item.answered}
    return json.dumps({name: json.loads(record.model_dump_json()) for name, record in records.items()})


def main() -> int:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("bundle", "curve"))
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--seed", help="another word draws other pictures")
    parser.add_argument("--state-dir", type=Path, help="keep the records of a curve there")
    given = parser.parse_args()
    bundle = given.what == "bundle"
    state = given.state_dir or Path(tempfile.mkdtemp(prefix="dt-rv-", dir=Path.home()))
    folder = state / "source"
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder, given.pictures or (24 if bundle else 200), 1 if bundle else 2, given.seed or f"review-{given.what}")
    services = build_services(Settings(state_dir=state, start_engines=False))
    asyncio.run(answer(services, folder, given.what))
    report = json.loads((folder / "report.json").read_text())
    print(
        json.dumps(
            {
                name: report[name]
                for name in ("reference", "curve_by_reference", "curve_of_disagreement_by_reference", "divergence_mass")
            },
            indent=1,
        )
    )
    if bundle:
        shutil.rmtree(TARGET / "pictures", ignore_errors=True)
        shutil.copytree(folder, TARGET / "pictures", ignore=shutil.ignore_patterns("*.csv", "*.json"))
    if given.state_dir is None:
        shutil.rmtree(state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
