"""Recorded turns for ``app.py --recorded``: real answers with exact divergences, as files under assets/recorded.

``python scripts/record.py --pair embedded`` starts the pair's engines, asks its examples, scores every candidate's and
the base's answer, and writes the file. ``--state-dir DIR --turn ID`` (again and again) writes turns of an earlier run
instead, such as those of a pair that was served on a GPU, and starts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import shutil
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.compare.case import Wanted  # noqa: E402
from components.compare.recorded import SUFFIX, store_recorded, write_recorded  # noqa: E402
from components.compare.request import Ask, ColumnRequest  # noqa: E402
from components.core.errors import AppError  # noqa: E402
from components.core.scores import Score  # noqa: E402
from components.core.states import EngineState  # noqa: E402
from components.core.traces import Trace  # noqa: E402
from components.profiles.schema import Example  # noqa: E402
from components.services import Services, build_services  # noqa: E402
from components.settings import Settings  # noqa: E402

TARGET = ROOT / "assets" / "recorded"
MAX_COLUMNS = 4


async def ask_all(services: Services) -> list[str]:
    """Every example of the pair, answered by all its engines and scored; ids of the turns."""
    pair = services.pair
    engines = [entry.engine_id for entry in services.catalog.of_pair(pair.id)][:MAX_COLUMNS]
    async with services.running():
        for engine_id in engines:
            if services.hub.status(engine_id).state is EngineState.STOPPED:
                await services.hub.start(engine_id)
        while not all(services.hub.status(engine_id).ready for engine_id in engines):
            failed = [engine_id for engine_id in engines if services.hub.status(engine_id).state is EngineState.FATAL]
            if failed:
                raise SystemExit(f"{failed[0]} does not start: {services.hub.status(failed[0]).reason}")
            await asyncio.sleep(1)
        return [await ask_one(services, example, engines) for example in pair.examples]


async def ask_one(services: Services, example: Example, engines: list[str]) -> str:
    """One question to all engines, each candidate scored along both answers; the turn's id."""
    pictures = [ROOT / example.image] if example.image else []
    sampling = services.pair.sampling
    ask = Ask(
        key=secrets.token_hex(16), prompt=example.prompt,
        images=tuple([await asyncio.to_thread(services.images.ingest, path, path.name) for path in pictures]),
        columns=tuple(ColumnRequest(position=n, engine_id=e, sampling=sampling) for n, e in enumerate(engines)),
    )  # fmt: skip
    live = await services.turns.begin(ask)

    async def drain(position: int) -> None:
        slot = live.trace.latest_answers[position].slot
        async with aclosing(services.turns.stream(live, slot, lambda: 0.25)) as snapshots:
            async for _ in snapshots:
                pass

    await asyncio.gather(*(drain(position) for position in range(len(engines))))
    for candidate in engines[1:]:
        for path in ("base", "candidate"):
            wanted = Wanted.read({"path": path, "candidate": candidate})
            score = await services.scoring.score(await services.scoring.find(live.trace.id, wanted))
            print(f"{example.prompt!r} {candidate} along the {path}'s answer: {score.method}", flush=True)
    return live.trace.id


def written(services: Services, ids: list[str], target: Path) -> int:
    """Write the turns, and look that a fresh app could store them; bytes."""
    turns: list[tuple[Trace, list[Score]]] = [(services.traces.get(one), services.scores.of_turn(one)) for one in ids]
    pair = turns[0][0].pair
    size = write_recorded(target, pair, turns, services.images)
    fresh = Path(tempfile.mkdtemp(prefix="dt-rec-", dir=Path.home()))
    checked = build_services(Settings(state_dir=fresh, start_engines=False))
    stored = store_recorded(target / f"{pair}{SUFFIX}", checked.traces, checked.scores, checked.images)
    checked.close()
    shutil.rmtree(fresh)
    if list(stored) != ids:
        raise SystemExit("what was written can't be read again")
    return size


def main() -> int:
    """Ask and write, or only write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="embedded")
    parser.add_argument("--state-dir", type=Path, help="records of an earlier run")
    parser.add_argument("--turn", action="append", default=[], help="id of a turn of that run")
    parser.add_argument("--target", type=Path, default=TARGET)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    state = given.state_dir or Path(tempfile.mkdtemp(prefix="dt-rec-", dir=Path.home()))
    try:
        services = build_services(Settings(pair=given.pair, state_dir=state, start_engines=False))
        ids = given.turn or asyncio.run(ask_all(services))
        if given.turn:
            size = written(services, ids, given.target)
            services.close()
        else:  # its engines ended with the run, and the records were closed
            services = build_services(Settings(pair=given.pair, state_dir=state, start_engines=False))
            size = written(services, ids, given.target)
            services.close()
    except AppError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    if given.state_dir is None:
        shutil.rmtree(state)
    print(f"{len(ids)} turns, {size:,} bytes, in {given.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
