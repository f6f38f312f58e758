"""What stands in front of every route: Host and Origin allow-lists, sign-in, security headers. ASGI, knows no page.

Gradio checks no Host header and reflects foreign Origins (reliability.md 6.1), so a web page that the owner has open
could otherwise drive the app. Sign-in covers every route alike: HTTP Basic, so that scripts need nothing special, and
the session of a sign-in at Hugging Face. Who a request is from is found here once (``identity.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from components.ui.identity import PERSON_KEY, Person, Roll

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
ACCOUNT_PATH = "/signin"  # asks for an account, also where visitors are let in
LOGIN_PATH, CALLBACK_PATH, SIGN_OUT_PATH = "/login/huggingface", "/login/callback", "/signout"
SIGN_IN_PATHS = frozenset({LOGIN_PATH, CALLBACK_PATH, SIGN_OUT_PATH})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    # Gradio's own page needs inline scripts and eval (its templates); what matters is that nothing loads or leaks
    # elsewhere: no foreign pictures, frames, scripts or requests.
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data:; object-src 'none'; "
        b"base-uri 'self'; form-action 'self'",
    ),
)


@dataclass(frozen=True)
class GuardRules:
    """Who may come in.

    Attributes:
        hosts: accepted host names without port; empty accepts any (listening on all addresses without names given).
        roll: who may sign in.
        visitors: whether a caller without sign-in may come in at all.
        framed_by: origins that may show the page in a frame (a Space); empty = nobody.
    """

    hosts: frozenset[str]
    roll: Roll = field(default_factory=Roll)
    visitors: bool = True
    framed_by: tuple[str, ...] = ()


class Guard:
    """ASGI middleware."""

    def __init__(self, app: App, rules: GuardRules) -> None:
        self._app, self._rules = app, rules
        ancestors = " ".join(rules.framed_by) or "'none'"
        name, policy = _HEADERS[-1]
        self._headers = [*_HEADERS[:-1], (name, policy + f"; frame-ancestors {ancestors}".encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers)
        if refusal:
            await _answer(send, 403, refusal)
            return
        person = self._rules.roll.caller(headers.get("authorization", ""), scope.get("session", {}))
        scope[PERSON_KEY] = person
        if await self._stopped(person, scope["path"], send):
            return
        await self._app(scope, receive, self._with_headers(send))

    def _refusal(self, headers: dict[str, str]) -> str | None:
        host = headers.get("host", "")
        if not self._accepts(urlsplit(f"//{host}").hostname):
            return f"The host name {host[:100]!r} is not accepted. Set DIPTYCH_ALLOWED_HOSTS to allow it."
        origin = headers.get("origin")
        if origin is None:
            return None
        parts = urlsplit(origin)
        if parts.netloc == host or (self._rules.hosts and self._accepts(parts.hostname) and parts.hostname):
            return None
        return "Requests from other sites are not accepted."

    def _accepts(self, hostname: str | None) -> bool:
        return not self._rules.hosts or (hostname or "").lower() in self._rules.hosts

    async def _stopped(self, person: Person | None, path: str, send: Send) -> bool:
        """Whether a caller has been answered here: by a question for a name, or by a refusal."""
        roll, guests = self._rules.roll, self._rules.visitors
        if path in _OPEN_PATHS or (roll.hugging_face and path in SIGN_IN_PATHS):
            return False
        if person is not None:
            if person.may_review or guests:
                return False
            await _answer(send, 403, f"You are signed in as {person.name}, who is not let in here.")
            return True
        if guests and path != ACCOUNT_PATH:
            return False
        if roll.hugging_face and path == "/":
            await _answer(send, 303, "Sign in.", ((b"location", LOGIN_PATH.encode()),))
        elif roll.accounts:
            challenge = b'Basic realm="Diptych", charset="UTF-8"'
            await _answer(send, 401, "Sign in.", ((b"www-authenticate", challenge),))
        else:
            await _answer(send, 401, "Sign in.")
        return True

    def _with_headers(self, send: Send) -> Send:
        async def run(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        return run


async def _answer(send: Send, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    body = text.encode()
    start = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
