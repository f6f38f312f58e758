"""What stands in front of every route (F46, T3): foreign hosts and origins never reach a handler."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from components.ui.guards import Guard, GuardRules
from components.ui.identity import PERSON_KEY, Roll

LOCAL = frozenset({"127.0.0.1", "localhost"})


async def call(
    rules: GuardRules, path: str = "/", session: dict[str, Any] | None = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and the user that the app behind the guard saw (None when it was not reached)."""
    seen: dict[str, Any] = {"user": "not reached"}
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        person = scope[PERSON_KEY]
        seen["user"] = person and person.name
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        messages.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": path, "headers": raw, "session": session or {}}
    await Guard(app, rules)(scope, receive, send)
    got = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    return messages[0]["status"], got, seen["user"]


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize("host", ["evil.example", "192.168.1.5:7860", "127.0.0.1.evil.example", ""])
async def test_f46_a_foreign_host_name_is_refused(host: str) -> None:
    status, _, user = await call(GuardRules(LOCAL), host=host)
    assert (status, user) == (403, "not reached")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost.evil.example"])
async def test_f46_a_foreign_origin_is_refused(origin: str) -> None:
    status, _, user = await call(GuardRules(LOCAL), host="localhost:7860", origin=origin)
    assert (status, user) == (403, "not reached")


async def test_our_own_page_is_let_in_with_its_headers() -> None:
    status, headers, user = await call(GuardRules(LOCAL), host="localhost:7860", origin="http://localhost:7860")
    assert (status, user) == (200, None)
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "img-src 'self' data: blob:" in headers["content-security-policy"]


async def test_with_accounts_nobody_comes_in_without_the_right_password() -> None:
    rules = GuardRules(LOCAL, Roll({"ada": "secret"}), visitors=False)
    for authorization in ("", basic("ada", "wrong"), basic("eve", ""), basic("eve", "secret"), "Basic %%%"):
        status, headers, user = await call(rules, host="localhost", authorization=authorization)
        assert (status, user) == (401, "not reached")
        assert headers["www-authenticate"].startswith("Basic")
    status, _, user = await call(rules, host="localhost", authorization=basic("ada", "secret"))
    assert (status, user) == (200, "ada")


async def test_visitors_of_a_public_page_may_sign_in_but_need_not() -> None:
    rules = GuardRules(frozenset(), Roll({"ada": "secret"}), visitors=True)
    assert await call(rules, host="any.name") == (200, (await call(rules, host="any.name"))[1], None)
    assert (await call(rules, path="/signin", host="any.name"))[0] == 401


async def test_a_page_that_is_not_public_lets_in_by_name_who_signed_in_elsewhere() -> None:
    rules = GuardRules(LOCAL, Roll(owners=("boss",), reviewers=("Rita",), hugging_face=True), visitors=False)
    status, headers, _ = await call(rules, host="localhost")
    assert (status, headers["location"]) == (303, "/login/huggingface")
    status, headers, user = await call(rules, path="/gradio_api/queue/join", host="localhost")
    assert (status, user) == (401, "not reached")
    assert "www-authenticate" not in headers, "there is no password to ask for"
    for path in ("/login/huggingface", "/login/callback", "/signout", "/healthz"):
        assert (await call(rules, path=path, host="localhost"))[0] == 200
    for name in ("Boss", "rita"):
        status, _, user = await call(rules, host="localhost", session={"name": name})
        assert (status, user) == (200, name)
    status, _, user = await call(rules, host="localhost", session={"name": "eve"})
    assert (status, user) == (403, "not reached")


async def test_without_sign_in_elsewhere_its_addresses_are_guarded_like_any_other() -> None:
    rules = GuardRules(LOCAL, Roll({"ada": "secret"}), visitors=False)
    for path in ("/login/huggingface", "/login/callback", "/signout"):
        status, _, user = await call(rules, path=path, host="localhost", session={"name": "ada"})
        assert (status, user) == (401, "not reached")
