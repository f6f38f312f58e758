"""plotly's script from the installed package, so that no page fetches it from elsewhere; loaded by the first chart."""

from __future__ import annotations

from pathlib import Path

import plotly
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse

_SCRIPT = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def add_chart_routes(server: FastAPI) -> None:
    """Add the route of the script."""

    @server.get("/plotly.js")
    def script() -> Response:
        return FileResponse(
            _SCRIPT, media_type="text/javascript", headers={"cache-control": "private, max-age=86400"}
        )  # fmt: skip
