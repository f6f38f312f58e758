"""The users of scripts/soak.py, in a process of their own: open pages that ask, read, score and poll as a browser does.

Reads one JSON job from standard input and prints one JSON line per turn. Beside the users of the page some ask the same
questions straight at the engines, under the same load.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.bench_client import LIMITS, direct_turn, engine_clients, page_turn

_POLL_S = 2.0  # as the page's timer


async def run(job: dict[str, Any]) -> None:
    """All users at once until the time is over; each then ends his turn."""
    ends = time.monotonic() + job["seconds"]
    async with httpx.AsyncClient(base_url=job["url"], timeout=httpx.Timeout(300.0), limits=LIMITS) as http:
        clients = await engine_clients(job["engines"])
        pages = [_user(job, number, ends, _page(http, job, number)) for number in range(job["users"])]
        polls = [_poll(http, job, number, ends) for number in range(job["users"])]
        direct = [_user(job, 1000 + number, ends, _direct(clients, job)) for number in range(job["direct_users"])]
        await asyncio.gather(*pages, *polls, *direct)


async def _user(job: dict[str, Any], seed: int, ends: float, turn: Callable[[int], Awaitable[dict[str, Any]]]) -> None:
    chance = random.Random(seed)
    await asyncio.sleep(chance.uniform(0, 2 * job["think_s"]))  # not all at the same moment
    while time.monotonic() < ends:
        try:
            done = await turn(chance.randrange(len(job["questions"])))
        except Exception as exc:  # noqa: BLE001  whatever it is, it is what the run is there to find
            done = {"error": f"{type(exc).__name__}: {exc}"[:300], "columns": []}
        print(json.dumps({**done, "user": seed}), flush=True)
        await asyncio.sleep(chance.uniform(0.5, 1.5) * job["think_s"])


def _page(http: httpx.AsyncClient, job: dict[str, Any], number: int) -> Callable[[int], Awaitable[dict[str, Any]]]:
    session = f"user{number}"

    async def turn(question: int) -> dict[str, Any]:
        prompt, image = job["questions"][question]
        key = secrets.token_hex(16)
        columns = await page_turn(http, job, session, prompt, image, key)
        result = {"mode": "page", "key": key, "columns": columns}
        error = await fire(http, session, job["score"], {"turn": key, "of": "base"})
        return {**result, "error": error} if error else result

    return turn


def _direct(clients: list[httpx.AsyncClient], job: dict[str, Any]) -> Callable[[int], Awaitable[dict[str, Any]]]:
    async def turn(question: int) -> dict[str, Any]:
        salt = {"cache_salt": secrets.token_hex(16)}  # as the app: nobody's prompt is answered from another's cache
        return {
            "mode": "direct", "columns": await direct_turn(clients, [b | salt for b in job["bodies"][question]])
        }  # fmt: skip

    return turn


async def _poll(http: httpx.AsyncClient, job: dict[str, Any], number: int, ends: float) -> None:
    while time.monotonic() < ends:
        await asyncio.sleep(_POLL_S)
        try:
            error = await fire(http, f"poll{number}", job["tick"], None)
        except Exception as exc:  # noqa: BLE001  as above
            error = f"{type(exc).__name__}: {exc}"[:300]
        if error:
            print(json.dumps({"mode": "poll", "user": number, "error": error, "columns": []}), flush=True)


async def fire(http: httpx.AsyncClient, session: str, event: dict[str, Any], data: Any) -> str | None:
    """One event of the page; what went wrong, or None."""
    asked = {
        "data": event["inputs"], "event_data": data, "session_hash": session, "trigger_id": event["trigger"],
        "fn_index": event["function"],
    }  # fmt: skip
    answer = await http.post("gradio_api/queue/join", json=asked)
    answer.raise_for_status()
    async with http.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            message = json.loads(line[5:]) if line.startswith("data:") else {"msg": ""}
            if message["msg"] == "process_completed":
                return None if message.get("success", True) else str(message.get("output"))[:300]
    return "the stream of events ended early"


if __name__ == "__main__":
    asyncio.run(run(json.load(sys.stdin)))
