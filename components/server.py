"""Services → tabs → one running web server. Knows the page and the services; holds no meaning of its own."""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from uvicorn.config import LOGGING_CONFIG

from components.benchmark.tab import create_benchmark_tab
from components.benchmark.tab_items import Doors
from components.benchmark.verdict import load_verdict_profile
from components.compare.eyes_view import reliance_markdown, reliance_to_dict
from components.compare.repeat_view import repeat_to_dict, repeats_markdown
from components.compare.score_view import ALL_ALTERNATIVES, divergence_markdown, score_to_dict
from components.compare.tab import create_compare_tab
from components.compare.tab_api import add_compare_api
from components.compare.tab_continue_api import add_continue_api
from components.compare.tab_handlers import CompareHandlers
from components.compare.tab_repeat import add_repeat_api
from components.compare.tab_score_api import add_score_api
from components.compare.view_model import image_view
from components.core.errors import AppError, InputError
from components.core.trace_export import traces_to_dict, traces_to_markdown
from components.jobs.service import JobView
from components.models.tab import create_models_tab
from components.observability import Readiness, log_as_json
from components.publish.tab import create_publish_dialog
from components.quantize.tab import create_quantize_tab
from components.quantize.view_model import board_view
from components.review.export import check_format
from components.review.requests import NewBatch, read_export
from components.review.tab import create_review_tab
from components.review.tab_people import People
from components.services import Services
from components.settings import LOOPBACK, Settings
from components.ui.access import RECORDED, Access
from components.ui.chart_routes import add_chart_routes
from components.ui.guards import ACCOUNT_PATH, LOGIN_PATH, GuardRules
from components.ui.identity import Roll
from components.ui.job_routes import job_routes
from components.ui.metrics_routes import metrics_routes
from components.ui.page import Tab, build_page, build_server
from components.ui.review_routes import review_routes
from components.ui.sign_in import Provider
from components.ui.views import Refresh, view
from components.ui.visitors import VisitorRules, Visitors


def create_server(services: Services) -> FastAPI:
    """The ASGI app of these services; engines start with its lifespan."""
    settings = services.settings
    uploads = settings.state_dir / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    # Read by Gradio when an upload comes in: uploads stay out of the machine's shared temporary folder.
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # At the end of every event Gradio would make a table of the last 10,000 for a monitoring page that is off: 5 to
    # 11 ms of processor time, as much as all the rest of a small event.
    os.environ |= {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9)}
    handlers = CompareHandlers(
        turns=services.turns, catalog=services.catalog, hub=services.hub, images=services.images,
        traces=services.traces, pair=services.pair, assets=settings.assets_dir, uploads=uploads,
        recorded=services.recorded if settings.recorded else None,
    )  # fmt: skip
    visitors = Visitors(visitor_rules(settings)) if settings.public and not settings.recorded else None
    access = Access(public=settings.public, visitors=visitors, recorded=settings.recorded, roll=roll_of(settings))
    people = People(access)
    tabs = [
        Tab("Compare", "compare", lambda: _compare(services, handlers, access)),
        Tab("Review", "review", lambda: _review(services, people)),
        Tab("Quantize", "quantize", lambda: _quantize(services, access)),
        Tab("Benchmarks", "benchmarks", lambda: _benchmarks(services, access, people)),
        Tab("Models", "models", lambda: _models(services, access)),
    ]
    page = build_page(
        tabs,
        lambda request: {**_status(services, handlers), **_who(access, request)},
        lambda: services.hub.version + services.jobs.queue.version + services.review.runner.version,
        names=access.roll.signs_in,
    )
    return build_server(
        page,
        assets=settings.assets_dir,
        rules=guard_rules(settings),
        provider=_provider(settings),
        running=services.running,
        export=lambda trace_id, kind: _export(services, trace_id, kind),
        picture=services.images.path,
        routes=[
            job_routes(services.jobs, access),
            add_chart_routes,
            _watching(services, access),
            review_routes(
                services.review.upload_folder,
                lambda wanted, request: _review_export(services, people, wanted, request),
                people.check_owner,
            ),
        ],
        max_file_bytes=settings.image_max_bytes + 1_000_000,
        recorded=settings.recorded,
        blocked=[settings.profiles_dir, settings.state_dir / "diptych.db", settings.state_dir / "logs"],
    )


def _status(services: Services, handlers: CompareHandlers) -> dict[str, Any]:
    recorded = services.settings.recorded
    return {"text": "Recorded turns"} if recorded else handlers.status_line(services.first_engines)


def _who(access: Access, request: Any) -> dict[str, Any]:
    """Who signed in, and where one can."""
    roll, person = access.roll, access.person(request)
    where = LOGIN_PATH if roll.hugging_face else ACCOUNT_PATH if roll.accounts else None
    if person is None:
        return {"person": None, "sign_in": where, "elsewhere": roll.hugging_face}
    return {"person": person.name, "owner": person.is_owner, "may_leave": not person.by_account}


def _provider(settings: Settings) -> Provider | None:
    if not settings.signs_in_elsewhere:
        return None
    return Provider(
        settings.openid_provider_url, settings.oauth_client_id, settings.oauth_client_secret, settings.page_url
    )


def _compare(services: Services, handlers: CompareHandlers, access: Access) -> Refresh:
    urls = [example_url(example.image) for example in services.pair.examples]
    refresh = create_compare_tab(
        handlers=handlers, scoring=services.scoring, eyes=services.eyes, repeating=services.repeating,
        catalog=services.catalog, pair=services.pair, limits=services.images.limits,
        example_urls=urls, access=access, first_turn=services.recorded_turn,
    )  # fmt: skip
    add_compare_api(
        turns=services.turns, store=services.images, catalog=services.catalog, hub=services.hub, pair=services.pair,
        access=access,
    )  # fmt: skip
    add_score_api(services.scoring, services.eyes, access)
    add_continue_api(services.turns, access)
    add_repeat_api(services.repeating, access)
    return refresh


def _review(services: Services, people: People) -> Refresh:
    return create_review_tab(service=services.review, catalog=services.catalog, pair=services.pair, people=people)


def _review_export(services: Services, people: People, wanted: dict[str, Any], request: Request) -> str | bytes:
    """An export as a text or as a file; people who are not the owner get their own verdicts.

    Raises:
        InputError: naming the field. RecordNotFoundError: there is no such batch. NotPermittedError: a visitor.
    """
    only = people.only(request)
    check_format(wanted.get("format"))
    found = services.review.export(read_export(wanted), only)
    if not isinstance(found, list):
        return found
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False)


def _watching(services: Services, access: Access) -> Callable[[FastAPI], None]:
    """The routes of metrics and readiness; engines that the app does not start by itself are not waited for."""
    settings = services.settings
    engines = services.first_engines if settings.starts_engines else ()
    readiness = Readiness(services.database, settings.state_dir, services.hub, engines)

    async def of_engine(engine_id: str) -> bytes:
        return await services.hub.client(services.catalog.find(engine_id).engine_id).metrics()

    return metrics_routes(
        services.metrics.exposition, of_engine, lambda named: readiness.missing(named=named),
        access,
    )  # fmt: skip


def _models(services: Services, access: Access) -> Refresh:
    problems = [str(error) for error in services.profile_errors]
    return create_models_tab(
        catalog=services.catalog, hub=services.hub, planner=services.planner,
        default=services.first_engines[-1], access=access, problems=problems,
    )  # fmt: skip


def _quantize(services: Services, access: Access) -> Refresh:
    if access.recorded:
        view("sentence", {"text": RECORDED}, elem_id="dt-quantize-recorded")
        return Refresh((), (), lambda _request, _inputs: [])
    create_publish_dialog(services.publishing, access)
    return create_quantize_tab(
        quantize=services.quantize, jobs=services.jobs, catalog=services.catalog, hub=services.hub, access=access
    )


def _benchmarks(services: Services, access: Access, people: People) -> Refresh:
    candidates = services.pair.candidates

    def card_of(model: str) -> dict[str, Any]:
        card = services.cards.card(model)
        written = {"version": card.prose.version, "parts": card.prose.parts}
        return {"markdown": card.markdown, "missing": list(card.missing), "figures": card.figures, "prose": written}

    def write_prose(model: str, parts: Any, version: Any, request: Any) -> None:
        access.check_jobs(request)
        if not isinstance(parts, dict) or not isinstance(version, int):
            raise InputError("That is no text of a card.", "Open the card again.", field="parts")
        services.cards.write(model, parts, version, people.user(request) or "")

    def board_of(views: Sequence[JobView], now: datetime, may_control: bool) -> dict[str, Any]:
        files = services.jobs.files
        shown = board_view(views, now, may_control=may_control, files=lambda job: files(job.id), known_engines=())
        for row in shown["jobs"]:  # the form of the Quantize tab can't be filled with a benchmark
            row["actions"] = [action for action in row["actions"] if action != "duplicate"]
        return {**shown, "empty": "No benchmark has run yet."}

    def start_review(folder: Path, candidate: str, name: str, request: Any) -> None:
        people.check_owner(request)
        entry = services.catalog.find(candidate)
        wish = NewBatch(
            name=name[:120], upload="", folder=str(folder), prompts=(), base=entry.pair.engine_id(entry.pair.base),
            candidates=(candidate,), system="", max_tokens=None, overlap=0.0,
        )  # fmt: skip
        services.review.create(wish, people.user(request) or "")

    doors = Doors(
        lambda picture: image_view(services.images.ingest(picture, picture.name)), start_review, write_prose
    )  # fmt: skip
    return create_benchmark_tab(
        benchmarks=services.benchmarks, jobs=services.jobs, catalog=services.catalog, hub=services.hub,
        card_of=card_of, board_of=board_of, limits=load_verdict_profile(services.settings.profiles_dir).limits,
        default=services.pair.engine_id(candidates[0]) if candidates else "", access=access, doors=doors,
    )  # fmt: skip


def _export(services: Services, trace_id: str, kind: str) -> tuple[str, str]:
    """A stored turn as a file.

    Raises:
        RecordNotFoundError: there is no such turn. InputError: no such format.
    """
    chain = services.traces.conversation(trace_id)
    scores = {trace.id: services.scores.of_turn(trace.id) for trace in chain}
    reliances = {trace.id: services.reliances.of_turn(trace.id) for trace in chain}
    repeats = {trace.id: services.repeats.of_turn(trace.id) for trace in chain}
    if kind == "json":
        document = traces_to_dict(chain)
        for trace in document["traces"]:
            trace["scores"] = [score_to_dict(score, ALL_ALTERNATIVES) for score in scores[trace["id"]]]
            trace["picture_reliances"] = [reliance_to_dict(found) for found in reliances[trace["id"]]]
            trace["repeats"] = [repeat_to_dict(repeat) for repeat in repeats[trace["id"]]]
        return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False), "application/json"
    if kind == "md":
        parts = [divergence_markdown(found) for found in scores.values() if found]
        parts += [reliance_markdown(found) for found in reliances.values() if found]
        parts += [repeats_markdown(found) for found in repeats.values() if found]
        return "\n".join([traces_to_markdown(chain), *parts]), "text/markdown; charset=utf-8"
    raise InputError(f"{kind!r} is no export format.", "Accepted: json, md.", field="format")


def roll_of(settings: Settings) -> Roll:
    """Who may sign in, and what for."""
    return Roll(
        accounts=settings.accounts, owners=settings.owner_names, reviewers=settings.reviewer_names,
        anyone_reviews=settings.public and not settings.reviewer_names, hugging_face=settings.signs_in_elsewhere,
    )  # fmt: skip


def guard_rules(settings: Settings) -> GuardRules:
    """Which hosts and callers are let in. A Space is reached by names that only its owner knows, hence --public."""
    extra = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
    on_all = settings.host in ("0.0.0.0", "::")  # noqa: S104
    hosts = frozenset() if on_all and not extra else frozenset({*LOOPBACK, settings.host, *extra})
    roll = roll_of(settings)
    # Where a Space is looked at. Not *.hf.space: any other Space could then lay this page under its visitors' clicks.
    framed = ("https://huggingface.co",) if settings.public else ()
    return GuardRules(
        hosts=hosts,
        roll=roll,
        visitors=settings.public or not roll.signs_in,
        framed_by=framed,
    )


def visitor_rules(settings: Settings) -> VisitorRules:
    """What one visitor of a public page may take."""
    return VisitorRules(
        answers_per_minute=settings.visitor_answers,
        max_tokens=settings.visitor_max_tokens,
        image_max_bytes=settings.visitor_image_max_bytes,
        image_max_pixels=settings.visitor_image_max_pixels,
    )


def check_port(settings: Settings) -> None:
    """Refuse a port that somebody has, before anything is opened.

    Raises:
        AppError: it is in use, or may not be used.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as exc:
            raise AppError(
                f"Port {settings.port} on {settings.host} can't be used: {exc.strerror}.",
                f"Choose another one, for example: make run PORT={settings.port + 1}",
            ) from exc


def collect_less() -> None:
    """Leave what has been built out of garbage collection, and collect less often.

    An answer of 214 tokens becomes some 4,500 objects with their alternatives, which stay. At Python's own threshold of
    700 they were gone through again and again: 84 µs a token, where 33 are enough.
    """
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


def serve(server: FastAPI, settings: Settings) -> None:
    """Run until a signal ends it."""
    sys_line = f"Diptych is at http://{'localhost' if settings.is_loopback else settings.host}:{settings.port}\n"
    os.write(1, sys_line.encode())
    as_json = settings.log_format == "json"
    if as_json:
        log_as_json()
    config = uvicorn.Config(
        server, host=settings.host, port=settings.port, log_level="warning", timeout_graceful_shutdown=3, ws="none",
        proxy_headers=True, forwarded_allow_ips=settings.trusted_proxies,
        loop="asyncio",  # with uvloop the first token came some 10 ms later and no token faster (scripts/bench.py)
        log_config=None if as_json else LOGGING_CONFIG,  # without one of its own, what uvicorn logs is JSON too
    )  # fmt: skip
    uvicorn.Server(config).run()


def example_url(image: str | None) -> str | None:
    """Address of an example's picture, which lies under assets/."""
    return f"look/{image.removeprefix('assets/')}" if image else None
