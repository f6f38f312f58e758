"""An OpenID provider that speaks what Hugging Face speaks: metadata, authorize, token, userinfo, signed id tokens.

Real HTTP on this machine. Codes work once, for one redirect address and one client; faults are injected on demand.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "diptych-test", "a secret of client and provider"


@dataclass
class Behaviour:
    """Who sits at the browser, and what goes wrong."""

    person: str = "Rita"
    agrees: bool = True
    foreign_key: bool = False  # the id token is signed by somebody else
    userinfo_of: str = ""  # userinfo tells of another person than the id token
    silent: bool = False


class OpenIDProvider:
    """The server, on a free port of this machine."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, str] = {}
        self._key, self._foreign = (RSAKey.generate_key(2048, {"kid": "one"}) for _ in range(2))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/oauth/authorize",
            "token_endpoint": f"{self.url}/oauth/token",
            "userinfo_endpoint": f"{self.url}/oauth/userinfo",
            "jwks_uri": f"{self.url}/oauth/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def jwks(self) -> dict[str, Any]:
        return {"keys": [self._key.as_dict(private=False)]}

    def authorize(self, query: dict[str, str]) -> str:
        """The person looks at the question; where the browser is sent then."""
        assert query["client_id"] == CLIENT_ID
        assert query["response_type"] == "code"
        assert set(query["scope"].split()) == {"openid", "profile"}
        if not self.behaviour.agrees:
            return f"{query['redirect_uri']}?{urlencode({'error': 'access_denied', 'state': query['state']})}"
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**query, "person": self.behaviour.person}
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """The tokens of a code; None where it is refused."""
        client = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        asked = self.codes.pop(form.get("code", ""), None)
        if client.split(":")[0] != CLIENT_ID or asked is None or asked["redirect_uri"] != form.get("redirect_uri"):
            return None
        now, access = int(datetime.now(UTC).timestamp()), secrets.token_urlsafe(16)
        self.tokens[access] = asked["person"]
        claims = {
            "iss": self.url, "aud": CLIENT_ID, "sub": f"id-of-{asked['person']}", "iat": now, "exp": now + 60,
            "nonce": asked["nonce"],
        }  # fmt: skip
        key = self._foreign if self.behaviour.foreign_key else self._key
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)
        return {"access_token": access, "token_type": "bearer", "expires_in": 28800, "id_token": signed}

    def userinfo(self, authorization: str) -> dict[str, str] | None:
        """Who a token is of; None where nobody."""
        person = self.tokens.get(authorization.removeprefix("Bearer "))
        if person is None:
            return None
        told = self.behaviour.userinfo_of or person
        return {"sub": f"id-of-{told}", "preferred_username": told, "name": f"{told} the Great"}


def _handler(provider: OpenIDProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, _single(urlsplit(self.path).query)
            if provider.behaviour.silent:
                self._json(503, {})
            elif path == "/oauth/authorize":
                self.send_response(302)
                self.send_header("location", provider.authorize(query))
                self.send_header("content-length", "0")
                self.end_headers()
            elif path == "/oauth/userinfo":
                found = provider.userinfo(self.headers.get("authorization", ""))
                self._json(200 if found else 401, found or {})
            else:
                known = {"/.well-known/openid-configuration": provider.metadata, "/oauth/jwks": provider.jwks}
                self._json(200, known[path]())

        def do_POST(self) -> None:
            form = _single(self.rfile.read(int(self.headers["content-length"])).decode())
            found = provider.token(form, self.headers.get("authorization", ""))
            self._json(200 if found else 400, found or {"error": "invalid_grant"})

        def _json(self, status: int, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _single(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}
