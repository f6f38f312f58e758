"""A load generator in a process of its own: the same prompts through the page's own events, or straight to the engines.

Reads one JSON job from standard input, prints one JSON result. ``mode: page`` speaks what a browser speaks to Gradio
(join the queue, read the event stream, apply nothing); ``mode: direct`` posts the very request that the app would
send. Both count the same tokens and stamp arrivals with the same clock.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from typing import Any

import httpx

# Servers close idle connections after five seconds, which httpx may notice too late: every request gets its own,
# as in the app.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)
_NOTHING: dict[str, Any] = {"ttft_ms": None, "tokens": 0, "seconds": 0.0, "error": None}


async def page_turn(
    http: httpx.AsyncClient, job: dict[str, Any], session: str, prompt: str, image: str | None, key: str = ""
) -> list[dict[str, Any]]:
    """One question in two columns, as a page that is open asks it; ``key`` becomes the turn's id."""
    event = {
        "key": key or secrets.token_hex(16),
        "prompt": prompt,
        "images": [image] if image else [],
        "names": ["bench.png"] if image else [],
        "parent": None,
        "history": {},
    }
    columns = {}
    sent = time.perf_counter()
    asked = {"data": job["inputs"], "event_data": event, "session_hash": session, "trigger_id": job["trigger"]}
    joins = [http.post("gradio_api/queue/join", json={**asked, "fn_index": f}) for f in job["functions"]]
    for answer in await asyncio.gather(*joins):
        answer.raise_for_status()
        columns[answer.json()["event_id"]] = dict(_NOTHING)
    await _read_events(http, session, columns, sent)
    return list(columns.values())


async def _read_events(http: httpx.AsyncClient, session: str, columns: dict[str, Any], sent: float) -> None:
    ended = 0
    async with http.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data:"):
                continue
            message = json.loads(line[5:])
            now = time.perf_counter()
            column = columns.get(message.get("event_id", ""))
            if message["msg"] == "process_generating" and column is not None:
                _note(column, message["output"]["data"][0], now - sent)
            elif message["msg"] == "process_completed":
                ended += 1
                if column is not None and not message.get("success", True):
                    column["error"] = str(message.get("output"))[:300]
                if ended == len(columns):
                    return


def _note(column: dict[str, Any], data: Any, elapsed_s: float) -> None:
    """Take from an update what a reader would see: new text, and at the end how many tokens it was."""
    text = json.dumps(data)
    if '"text"' in text and column["ttft_ms"] is None and _has_text(data):
        column["ttft_ms"] = elapsed_s * 1000
    if _has_text(data):
        column["seconds"] = elapsed_s
    for value in _strings(data):
        if " out · " in value:
            column["tokens"] = int(value.split(" out · ")[0].rsplit(" ", 1)[-1])


def _has_text(data: Any) -> bool:
    """Whether an update (a list of [action, path, value], or a whole value) brings text of the answer."""
    if isinstance(data, list):
        return any(isinstance(c, list) and len(c) == 3 and "text" in c[1] and c[2] for c in data)
    return any(a["text"] for t in (data or {}).get("turns", []) for a in t["answers"])


def _strings(data: Any) -> list[str]:
    if isinstance(data, str):
        return [data]
    values = data.values() if isinstance(data, dict) else data if isinstance(data, list) else []
    return [text for value in values for text in _strings(value)]


async def direct_turn(clients: list[httpx.AsyncClient], bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same question to both engines at once."""
    return list(await asyncio.gather(*(direct_column(c, b) for c, b in zip(clients, bodies, strict=True))))


async def direct_column(http: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    """One streamed answer, read as cheaply as possible."""
    result = dict(_NOTHING)
    sent = time.perf_counter()
    async with http.stream("POST", "v1/chat/completions", json=body) as stream:
        if stream.status_code != 200:
            return {**result, "error": (await stream.aread()).decode()[:300]}
        async for line in stream.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            choices = chunk.get("choices")
            if choices and (choices[0].get("delta") or {}).get("content"):
                result["seconds"] = time.perf_counter() - sent
                result["ttft_ms"] = result["ttft_ms"] or result["seconds"] * 1000
            if chunk.get("usage"):
                result["tokens"] = chunk["usage"]["completion_tokens"]
    return result


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """All users at once, each its prompts one after the other."""
    started = time.perf_counter()
    if job["mode"] == "page":
        async with httpx.AsyncClient(base_url=job["url"], timeout=httpx.Timeout(300.0), limits=LIMITS) as http:
            await http.get("healthz")  # what a process does once, at its first connection, counts for neither mode
            users = [
                _user([page_turn(http, job, session, p, i) for p, i in job["prompts"]]) for session in job["sessions"]
            ]
            columns = await asyncio.gather(*users)
    else:
        clients = await engine_clients(job["engines"])
        users = [_user([direct_turn(clients, bodies) for bodies in job["bodies"]]) for _ in range(job["users"])]
        columns = await asyncio.gather(*users)
    wall = time.perf_counter() - started
    return {"wall_s": wall, "columns": [c for user in columns for c in user]}


async def engine_clients(engines: list[dict[str, str]]) -> list[httpx.AsyncClient]:
    """One client for each engine, which has been spoken with once."""
    clients = [
        httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=engine["uds"], limits=LIMITS),
            base_url="http://engine",
            timeout=httpx.Timeout(300.0),
            headers={"Authorization": f"Bearer {engine['key']}"},
        )
        for engine in engines
    ]
    await asyncio.gather(*(client.get("health") for client in clients))
    return clients


async def _user(turns: list[Any]) -> list[dict[str, Any]]:
    return [column for turn in turns for column in await turn]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))
