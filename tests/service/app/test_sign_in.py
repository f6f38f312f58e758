"""Sign-in with Hugging Face on the real app, against an OpenID provider of this machine: the whole dance over HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from tests.fakes.openid import Behaviour, OpenIDProvider
from tests.running_app import RefusedError, RunningApp

pytestmark = pytest.mark.service
ACCOUNT = ("owner", "secret-word")


@pytest.fixture(autouse=True)
def _as_usual(provider: OpenIDProvider) -> None:
    provider.behaviour = Behaviour()


class Browser:
    """Keeps cookies, follows no redirect by itself."""

    def __init__(self, app: RunningApp) -> None:
        self.app, self.http = app, httpx.Client(trust_env=False, timeout=30)

    def begin(self, back: str = "/") -> str:
        """Ask to sign in; the provider's address that the browser is sent to."""
        answer = self.http.get(f"{self.app.url}login/huggingface", params={"back": back})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def at_provider(self, address: str) -> str:
        """The person answers there; the address of the app that the browser is sent back to."""
        return self.http.get(address).headers["location"]

    def sign_in(self, back: str = "/") -> httpx.Response:
        return self.http.get(self.at_provider(self.begin(back)))

    def call(self, endpoint: str, *data: Any, **headers: str) -> Any:
        base = f"{self.app.url}gradio_api/call/{endpoint}"
        event = self.http.post(base, json={"data": list(data)}, headers=headers).json()["event_id"]
        lines = self.http.get(f"{base}/{event}").text.splitlines()
        kind, value = lines[0].removeprefix("event: "), lines[1].removeprefix("data: ")
        if kind != "complete":
            raise RefusedError(value)
        return json.loads(value)[0]

    def name(self) -> str | None:
        """Under which name it may review; None = a visitor."""
        try:
            self.call("review_next", "somebody else")
        except RefusedError as exc:
            said = str(exc)
            return None if "Visitors can't review" in said else said.split("You are signed in as ")[1].split(".")[0]
        raise AssertionError("anybody's name was taken")


@pytest.fixture
def browser(public_app: RunningApp) -> Iterator[Browser]:
    found = Browser(public_app)
    yield found
    found.http.close()


def test_a_visitor_sees_the_page_and_is_asked_to_sign_in(browser: Browser) -> None:
    assert browser.http.get(browser.app.url).status_code == 200
    for endpoint, data in (("quantize", [{}]), ("benchmark", [{}]), ("publish", ["job-0", "me/x"])):
        with pytest.raises(RefusedError, match=r"Visitors can't start or change jobs. Sign in."):
            browser.call(endpoint, *data)
    with pytest.raises(RefusedError, match=r"Visitors can't review. Sign in."):
        browser.call("review_next", "Boss")
    assert browser.http.get(browser.app.url + "metrics").json()["error"]["code"] == "not_permitted"


def test_a_reviewer_reviews_under_the_providers_name_and_starts_nothing(browser: Browser) -> None:
    answer = browser.sign_in("/?trace=abc")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?trace=abc")
    given = browser.call("review_next", "")
    record = browser.call("review_submit", "", {"item_id": given["item_id"], "verdict": "tie"})
    assert record["reviewer"] == "Rita"
    assert {row["reviewer"] for row in browser.call("review_export", {})} == {"Rita"}
    assert {row["reviewer"] for row in browser.call("review_export", {"reviewer": "Boss"})} == {"Rita"}
    with pytest.raises(RefusedError, match="Only the owner of this page can start or change jobs"):
        browser.call("quantize", {})
    assert browser.http.get(browser.app.url + "metrics").status_code == 400
    assert browser.http.post(browser.app.url + "review/upload?name=a.csv", content=b"x").status_code == 400


def test_the_owner_sees_all_and_may_start_jobs(browser: Browser, provider: OpenIDProvider) -> None:
    reviewer = Browser(browser.app)
    reviewer.sign_in()
    provider.behaviour.person = "Boss"  # the setting says boss: names there differ in more than case
    browser.sign_in()
    for each in (reviewer, browser):
        given = each.call("review_next", "")
        each.call("review_submit", "", {"item_id": given["item_id"], "verdict": "a"})
    reviewer.http.close()
    assert {row["reviewer"] for row in browser.call("review_export", {})} >= {"Rita", "Boss"}
    with pytest.raises(RefusedError, match="recipe"):
        browser.call("quantize", {"recipe": "no-such-recipe"})
    assert browser.http.get(browser.app.url + "metrics").status_code == 200


def test_no_header_no_field_and_no_cookie_of_ones_own_makes_a_name(browser: Browser) -> None:
    session = base64.b64encode(json.dumps({"name": "Boss"}).encode()).decode()
    forged = [
        {"x-forwarded-user": "Boss"}, {"diptych.person": "Boss"}, {"remote-user": "Boss"},
        {"cookie": f"diptych_session={session}"}, {"cookie": f"diptych_session={session}.aSJuMg.AAAAAAAAAAAAAAAA"},
        {"cookie": f"session={session}"}, {"authorization": "Bearer Boss"},
        {"authorization": "Basic " + base64.b64encode(b"Boss:").decode()},
    ]  # fmt: skip
    for headers in forged:
        with pytest.raises(RefusedError, match="Visitors can't review"):
            browser.call("review_next", "Boss", **headers)
    browser.sign_in()
    with pytest.raises(RefusedError, match="You are signed in as Rita"):
        browser.call("review_next", "Boss", **{"x-forwarded-user": "Boss"})


def test_a_wrong_state_signs_nobody_in(browser: Browser) -> None:
    back = urlsplit(browser.at_provider(browser.begin()))
    query = {name: values[0] for name, values in parse_qs(back.query).items()} | {"state": "guessed"}
    answer = browser.http.get(back._replace(query=urlencode(query)).geturl())
    assert answer.status_code == 400
    assert "not begun in this browser" in answer.text
    assert browser.name() is None


def test_the_way_back_of_another_browser_signs_nobody_in(browser: Browser) -> None:
    """An attacker can't sign somebody in under the attacker's name by a link."""
    other = Browser(browser.app)
    link = other.at_provider(other.begin())
    for _ in range(2):
        assert browser.http.get(link).status_code == 400
    assert browser.name() is None
    assert other.http.get(link).status_code == 303, "it was not used up"
    assert other.http.get(link).status_code == 400, "once"
    assert other.name() == "Rita", "still who it was"
    other.http.close()


def test_denied_consent_is_said(browser: Browser, provider: OpenIDProvider) -> None:
    provider.behaviour.agrees = False
    answer = browser.sign_in()
    assert answer.status_code == 400
    assert "You did not agree" in answer.text
    assert browser.name() is None


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"foreign_key": True}, "not signed as it should be"),
        ({"userinfo_of": "Boss"}, "did not say who you are"),
        ({"person": "<b>eve</b>"}, "did not say who you are"),
        ({"person": "Owner"}, "An account of this page is called Owner too"),
    ],
    ids=["foreign-key", "another-subject", "no-name", "name-of-an-account"],
)
def test_what_the_provider_gets_wrong_signs_nobody_in(
    browser: Browser, provider: OpenIDProvider, fault: dict[str, Any], words: str
) -> None:
    provider.behaviour = Behaviour(**fault)
    answer = browser.sign_in()
    assert answer.status_code == 400
    assert words in answer.text
    assert "<b>" not in answer.text
    assert browser.name() is None


def test_a_provider_that_is_away_is_said(browser: Browser, provider: OpenIDProvider) -> None:
    link = browser.at_provider(browser.begin())
    provider.behaviour.silent = True
    answer = browser.http.get(link)
    assert answer.status_code == 400
    assert "be reached" in answer.text
    assert browser.name() is None


def test_signing_out(browser: Browser) -> None:
    browser.sign_in()
    assert browser.name() == "Rita"
    foreign = browser.http.post(browser.app.url + "signout", headers={"origin": "https://evil.example"})
    assert (foreign.status_code, browser.name()) == (403, "Rita")
    assert browser.http.get(browser.app.url + "signout").status_code in (404, 405), "no link signs anybody out"
    assert browser.http.post(browser.app.url + "signout").status_code == 204
    assert browser.name() is None
    assert not browser.http.cookies


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", ""])
def test_signing_in_leads_to_no_other_site(browser: Browser, back: str) -> None:
    assert browser.sign_in(back).headers["location"] == "/"


def test_accounts_for_scripts_work_beside_it(public_app: RunningApp) -> None:
    assert httpx.get(public_app.url + "metrics", auth=ACCOUNT, trust_env=False).status_code == 200
    assert httpx.get(public_app.url + "signin", trust_env=False).status_code == 401
    browser = Browser(public_app)
    browser.http.auth = httpx.BasicAuth(*ACCOUNT)
    assert browser.name() == ACCOUNT[0]
    browser.http.close()


def test_the_cookie_holds_no_token(browser: Browser) -> None:
    browser.sign_in()
    (cookie,) = browser.http.cookies.jar
    assert cookie.has_nonstandard_attr("httponly")
    assert json.loads(base64.b64decode(str(cookie.value).split(".")[0])) == {"name": "Rita"}
