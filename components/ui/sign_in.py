"""Sign-in with Hugging Face: OpenID Connect's code flow by Authlib, and a signed cookie that holds the name alone.

Gradio's own sign-in covers the routes of its page; ours has to cover every route (``guards.py``), so it keeps no token
and no profile, and outside of a Space it is the same, not a stand-in.
"""

from __future__ import annotations

import hashlib
import html
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.middleware.sessions import SessionMiddleware

from components.core.errors import SignInError
from components.ui.guards import CALLBACK_PATH, LOGIN_PATH, SIGN_OUT_PATH
from components.ui.identity import SESSION_NAME, Roll

_LOG = logging.getLogger(__name__)
_SESSION_S = 8 * 3600  # as long as Hugging Face's own default
_TIMEOUT_S = 10.0
_BACK = "back"
_SILENT = "Hugging Face can't be reached, or gave no answer that could be used."
_AGAIN = "Go back to the page and try again."
_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<meta name="color-scheme" content="light dark"><title>Not signed in</title>'
    '<body style="font-family: sans-serif; max-width: 36em; margin: 4em auto; padding: 0 1em">'
    '<h1 style="font-size: 1.3em">Not signed in</h1><p>{}</p><p><a href="/">Back to the page</a></p></body></html>'
)
_NAME = re.compile(r"[\w.\-]{1,60}", re.ASCII)
_OWN_ADDRESS = re.compile(r"/(?![/\\])[\w\-./?=&%~]*", re.ASCII)


@dataclass(frozen=True)
class Provider:
    """Where people sign in.

    Attributes:
        url: the OpenID provider's, without a path to its metadata.
        client_id: the app's name there.
        client_secret: its secret there; the session's cookie is signed with a key made of it.
        page_url: how the page is reached, such as ``https://owner-name.hf.space``; empty = as it was asked.
    """

    url: str
    client_id: str
    client_secret: str
    page_url: str


def add_sessions(server: FastAPI, provider: Provider) -> None:
    """Have sessions read before anything else; to be added after the guard, which stands inside."""
    framed = provider.page_url.startswith("https://")  # a Space's page stands in a frame of another site
    server.add_middleware(
        SessionMiddleware,
        secret_key=hashlib.sha256(b"diptych session\0" + provider.client_secret.encode()).hexdigest(),
        session_cookie="diptych_session",
        max_age=_SESSION_S,
        same_site="none" if framed else "lax",
        https_only=framed,
    )


def sign_in_routes(provider: Provider, roll: Roll) -> Callable[[FastAPI], None]:
    """What adds the routes of signing in and out to a server."""

    def add(server: FastAPI) -> None:
        # Only where it is used: it takes a moment to import.
        from authlib.integrations.starlette_client import OAuth

        client = OAuth().register(
            "hugging_face", client_id=provider.client_id, client_secret=provider.client_secret,
            server_metadata_url=f"{provider.url.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={"scope": "openid profile", "timeout": _TIMEOUT_S},
        )  # fmt: skip

        @server.get(LOGIN_PATH)
        async def begin(request: Request, back: str = "/") -> Response:
            request.session[_BACK] = back if _OWN_ADDRESS.fullmatch(back) else "/"
            home = provider.page_url.rstrip("/") or str(request.base_url).rstrip("/")
            try:
                found: Response = await client.authorize_redirect(request, f"{home}{CALLBACK_PATH}")
            except (httpx2.HTTPError, ValueError) as exc:
                return _failed(SignInError(_SILENT, _AGAIN), exc)
            return found

        @server.get(CALLBACK_PATH)
        async def end(request: Request) -> Response:
            try:
                name = await _name(client, request)
                if roll.of_hugging_face(name) is None:
                    raise SignInError(f"An account of this page is called {name} too.", "Sign in with that account.")
            except SignInError as exc:
                return _failed(exc, exc.__cause__ or exc)
            back = str(request.session.get(_BACK, "/"))
            request.session.clear()
            request.session[SESSION_NAME] = name
            return RedirectResponse(back, status_code=303)

        @server.post(SIGN_OUT_PATH)
        async def leave(request: Request) -> Response:
            request.session.clear()
            return Response(status_code=204)

    return add


async def _name(client: Any, request: Request) -> str:
    """Whom the provider says it was: state, code, tokens and their signature were checked on the way.

    Raises:
        SignInError: it did not work out, and why.
    """
    from authlib.common.errors import AuthlibBaseError
    from authlib.integrations.base_client.errors import MismatchingStateError
    from joserfc.errors import JoseError

    try:
        token = await client.authorize_access_token(request)
        said = await client.userinfo(token=token)
    except MismatchingStateError as exc:
        raise SignInError("This sign-in was not begun in this browser, or too long ago.", _AGAIN) from exc
    except AuthlibBaseError as exc:
        if exc.error == "access_denied":
            raise SignInError("You did not agree at Hugging Face, so you are not signed in.", _AGAIN) from exc
        raise SignInError("Hugging Face did not confirm this sign-in.", _AGAIN) from exc
    except JoseError as exc:
        raise SignInError("What came back was not signed as it should be.", _AGAIN) from exc
    except (httpx2.HTTPError, ValueError, KeyError, RuntimeError) as exc:
        raise SignInError(_SILENT, _AGAIN) from exc
    signed = token.get("userinfo")  # from the id token; the two have to be about the same person
    name = said.get("preferred_username")
    if not signed or signed.get("sub") != said.get("sub") or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SignInError("Hugging Face did not say who you are.", _AGAIN)
    return name


def _failed(error: SignInError, cause: BaseException) -> HTMLResponse:
    _LOG.warning("sign-in failed: %s (%s)", error, type(cause).__name__)
    return HTMLResponse(_PAGE.format(html.escape(str(error))), status_code=400)
