"""Diptych's entry: settings → services → tabs → launch. No logic."""

from __future__ import annotations

import argparse
import gc
import sys

from pydantic import ValidationError

from components import __version__
from components.core.errors import AppError
from components.settings import Settings
from components.ui.gradio_import import import_gradio


def parse_arguments(argv: list[str]) -> Settings:
    """Settings from the command line; what is not given comes from DIPTYCH_… variables or the defaults."""
    parser = argparse.ArgumentParser(
        prog="app.py", description="Compare a base vision-language model with its quantized versions in the browser."
    )
    parser.add_argument("--pair", help="profile to open, a file of profiles/pairs without .yaml (default: embedded)")
    parser.add_argument(
        "--host", help="address to listen on (default: 127.0.0.1; another one needs sign-in or --public)"
    )
    parser.add_argument("--port", type=int, help="port to listen on (default: 7860)")
    parser.add_argument("--state-dir", help="folder of records, pictures, logs and prepared models")
    parser.add_argument("--public", action="store_true", default=None, help="a demo: visitors compare, nothing else")
    parser.add_argument(
        "--recorded", action="store_true", default=None, help="replay recorded turns: no engine, no vLLM needed"
    )
    parser.add_argument(
        "--placement", help="engines: together, alternately, planned for this machine (default: as the profile says)"
    )
    parser.add_argument("--serve", help="settings over the profile's, such as max_model_len=8192,w4a16.dtype=float16")
    parser.add_argument("--version", action="version", version=f"Diptych {__version__}")
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    return Settings(**given)


def main(argv: list[str]) -> int:
    """Start the app; 0 = ended on request, 2 = refused to start, with the reason on standard error. Or run the gate."""
    if argv[:1] == ["gate"]:
        from components.benchmark.gate import gate

        return gate(argv[1:])
    try:
        settings = parse_arguments(argv)
        refusal = settings.refusal()
        if refusal:
            raise AppError(refusal)
        gc.disable()  # what is imported and built stays, so looking through it again and again only takes time
        import_gradio()
        # Not before: these import Gradio, and a wrong option should not wait for that.
        from components.server import check_port, collect_less, create_server, serve
        from components.services import build_services

        check_port(settings)
        server = create_server(build_services(settings))
        collect_less()
        serve(server, settings)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        given = str(first["loc"][0]) if first["loc"] else "settings"
        name = "--" + given.replace("_", "-") if given.islower() and first["loc"] else given
        sys.stderr.write(f"Diptych can't start: {name}: {first['msg']}.\n")
        return 2
    except AppError as exc:
        sys.stderr.write(f"Diptych can't start: {exc}\n")
        return 2
    except KeyboardInterrupt:
        return 0  # the server has already ended everything in order
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
