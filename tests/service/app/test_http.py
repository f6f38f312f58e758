"""What stands in front of the app over real HTTP: foreign sites, paths that lead out, private events, sign-in."""

from __future__ import annotations

import http.client
import json
from typing import Any

import httpx
import pytest

from tests.running_app import RefusedError, RunningApp, new_state_dir, wait_until
from tests.service.app.conftest import NO_ENGINES

pytestmark = pytest.mark.service

OWNER = ("owner", "secret-word")


def raw_get(app: RunningApp, path: str, **headers: str) -> tuple[int, bytes]:
    """GET of a path that no library tidies up first."""
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=30)
    try:
        connection.putrequest("GET", path, skip_host="host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def config_of(app: RunningApp, auth: tuple[str, str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{app.url}config", auth=auth, timeout=30).json()
    return found


def send_event(app: RunningApp, fn_index: int, data: list[Any], event_data: Any, auth: Any = None) -> httpx.Response:
    body = {"data": data, "event_data": event_data, "fn_index": fn_index, "session_hash": "test", "trigger_id": None}
    return httpx.post(f"{app.url}gradio_api/queue/join", json=body, auth=auth, timeout=30)


def acts(app: RunningApp) -> list[dict[str, Any]]:
    """The events that start and stop engines."""
    config = config_of(app)
    board = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "dt-models")
    return [d for d in config["dependencies"] if [board, "act"] in [list(t) for t in d["targets"]]]


@pytest.mark.parametrize(
    "path", ["/", "/config", "/healthz", "/media/x.png", "/look/js/diptych.js", "/gradio_api/info"]
)
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::ffff:1.2.3.4]", ""])
def test_f46_a_foreign_host_is_refused_everywhere(app: RunningApp, path: str, host: str) -> None:
    status, body = raw_get(app, path, host=host)
    assert status == 403
    assert b"not accepted" in body


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_f46_a_foreign_origin_is_refused(app: RunningApp, origin: str) -> None:
    for path in ("gradio_api/queue/join", "gradio_api/upload", "gradio_api/call/compare"):
        answer = httpx.post(f"{app.url}{path}", json={}, headers={"origin": origin}, timeout=30)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_f46_our_own_names_are_let_in(app: RunningApp) -> None:
    for host in (f"127.0.0.1:{app.port}", f"localhost:{app.port}"):
        assert raw_get(app, "/healthz", host=host)[0] == 200
        assert raw_get(app, "/healthz", host=host, origin=f"http://{host}")[0] == 200


def test_what_each_open_page_fires_all_the_time_has_one_number_for_output(app: RunningApp) -> None:
    """Gradio builds every component anew that is an output, also of an event that changes nothing."""
    config = config_of(app)
    kinds = {c["id"]: c["type"] for c in config["components"]}
    polls = [d for d in config["dependencies"] if any(kinds.get(t[0]) == "timer" for t in d["targets"])]
    assert [[kinds[i] for i in poll["outputs"]] for poll in polls] == [["state"]]


def test_every_page_forbids_foreign_content(app: RunningApp) -> None:
    headers = httpx.get(app.url, timeout=30).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    [
        "/media/../../etc/passwd", "/media/..%2f..%2fdiptych.db", "/media/%2e%2e/%2e%2e/diptych.db.png",
        "/media/..%2f..%2f..%2fdiptych.png", f"/media/{'A' * 64}.png", f"/media/{'a' * 64}.png", "/media/.png",
        "/traces/../../x", "/traces/..%2f..%2fx.json", "/traces/%2e%2e%2fdiptych.db", "/traces/x.json", "/traces/x",
        "/traces/x.html", "/traces/%00.json", "/look/../app.py", "/look/%2e%2e/app.py", "/look/..%2fapp.py",
        "/look//etc/passwd", "/gradio_api/file=/etc/passwd", "/gradio_api/file=app.py",
        "/gradio_api/file=profiles/pairs/embedded.yaml", "/gradio_api/file=../../etc/passwd",
    ],
)  # fmt: skip
def test_f45_no_path_leads_out(app: RunningApp, path: str) -> None:
    status, body = raw_get(app, path)
    assert 400 <= status < 500, body[:200]
    assert b"root:" not in body
    assert b"SQLite" not in body
    assert b"Traceback" not in body


def test_f45_the_records_are_no_files_of_the_page(app: RunningApp) -> None:
    assert (app.state_dir / "diptych.db").exists()
    for name in ("diptych.db", "lock", "app.log", "logs/x.log"):
        status, _ = raw_get(app, f"/gradio_api/file={app.state_dir / name}")
        assert 400 <= status < 500, name


@pytest.mark.parametrize("path", ["/etc/hostname", "../../etc/hostname", "", None, 7, ["x"], "uploads"])
def test_f45_only_uploaded_files_become_pictures(app: RunningApp, path: Any) -> None:
    components = config_of(app)["components"]
    composer = next(c["id"] for c in components if c["props"].get("elem_id") == "dt-composer")
    call = {"session_hash": "test", "component_id": composer, "fn_name": "ingest", "data": {"path": path, "name": "x"}}
    answer = httpx.post(f"{app.url}gradio_api/component_server", json=call, timeout=30)
    assert answer.status_code == 200
    assert answer.json()["error"]["message"]
    assert "image" not in answer.json()


def test_f47_visitors_can_not_start_engines(public_app: RunningApp) -> None:
    for dependency in acts(public_app):
        for action in ("start", "restart", "stop"):
            send_event(public_app, dependency["id"], [], {"action": action, "engine": "embedded/base"})
    with pytest.raises(RefusedError, match=r"[Vv]isitor"):
        public_app.call("compare", "Hello", [], {})
    assert public_app.models()["embedded/base"]["state"] == "STOPPED"
    public_app.wait_alone()


def test_f47_visitors_repeat_a_few_times_only(public_app: RunningApp, app: RunningApp) -> None:
    with pytest.raises(RefusedError, match="whole numbers 2 to 8"):
        public_app.call("repeat", "nothing", {"n": 9})
    for asked, options in ((public_app, {"n": 8}), (app, {"n": 64})):
        with pytest.raises(RefusedError, match="There is no turn"):
            asked.call("repeat", "nothing", options)


def test_f47_a_visitor_gets_so_many_answers_in_a_minute(public_app: RunningApp) -> None:
    """Told apart by the address that this machine's proxy gives; what a visitor writes before it is not believed."""
    for number in range(10):
        visitor = {"x-forwarded-for": f"198.51.100.{number}, 203.0.113.5"}
        with pytest.raises(RefusedError, match="can't start"):
            public_app.call("compare", "Hello", [], {}, headers=visitor)
    with pytest.raises(RefusedError, match=r"A visitor gets 20 answers in a minute.* Try again in \d+ s"):
        public_app.call("compare", "Hello", [], {}, headers={"x-forwarded-for": "203.0.113.5"})
    with pytest.raises(RefusedError, match="can't start"):
        public_app.call("compare", "Hello", [], {}, headers={"x-forwarded-for": "203.0.113.6"})


def test_f47_a_visitors_answer_has_a_longest_length(public_app: RunningApp) -> None:
    with pytest.raises(RefusedError, match="max_tokens: An answer to a visitor has at most 512 tokens"):
        public_app.call("compare", "Hello", [], {"max_tokens": 513})


def test_f47_junk_to_every_event_does_no_harm(public_app: RunningApp) -> None:
    before = public_app.models()
    for dependency in config_of(public_app)["dependencies"]:
        for data, event in (([], None), ([None] * 40, {"action": "start", "engine": "../x"}), (["x"] * 3, "text")):
            answer = send_event(public_app, dependency["id"], data, event)
            assert "Traceback" not in answer.text
    assert public_app.models() == before
    public_app.wait_alone()


def test_sign_in_guards_every_route() -> None:
    environment = {**NO_ENGINES, "DIPTYCH_USERS": "owner:secret-word"}
    app = signed_app(environment)
    try:
        for user in (None, ("owner", "wrong"), ("", ""), ("owner", "")):
            for path in ("", "config", "gradio_api/info", "look/js/diptych.js", "media/x.png", "traces/x.json"):
                assert httpx.get(f"{app.url}{path}", auth=user, timeout=30).status_code == 401
        assert httpx.get(app.url, auth=OWNER, timeout=30).status_code == 200
    finally:
        app.close()


def signed_app(environment: dict[str, str]) -> RunningApp:
    app = RunningApp(new_state_dir(), environment=environment).start()
    wait_until("the app", lambda: healthy(app), 120, app.said)
    return app


def healthy(app: RunningApp) -> bool:
    try:
        return httpx.get(f"{app.url}healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temprature": 1}, "temprature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"seed": -1}, "seed"),
        ({"pair": "nope"}, "pair"),
        ({"columns": ["embedded/nope"]}, "columns"),
        ({"columns": "embedded/base"}, "columns"),
        ({"columns": ["embedded/base"] * 5}, "columns"),
        ({"columns": [{"engine": "embedded/base", "temperature": -1}]}, "temperature"),
    ],
)
def test_the_api_names_the_bad_option(app: RunningApp, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        app.call("compare", "Hello", [], options)
    message = json.dumps(json.loads(str(caught.value)), ensure_ascii=False)
    assert said in message
    assert "ccepted" in message
    assert "Traceback" not in message
    assert app.models()["embedded/base"]["state"] == "STOPPED"
