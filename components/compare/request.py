"""What a person asks: checking it, and turning a conversation into OpenAI messages. Pure; no engine, no storage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from components.core.answers import ImageRecord, Record, Sampling
from components.core.errors import InputError
from components.core.traces import StoredAnswer, Trace

MAX_COLUMNS = 4
MAX_PROMPT_CHARACTERS = 400_000
MAX_TOOLS = 32
_KEY = re.compile(r"[0-9a-f]{16,64}")


class ColumnRequest(Record):
    """One column of a turn: an engine plus sampling parameters."""

    position: int = Field(ge=0, lt=MAX_COLUMNS)
    engine_id: str
    sampling: Sampling = Sampling()


class Ask(Record):
    """One prompt for several columns."""

    key: str = Field(description="Made by the asker, the same for all columns of a turn: hex, 16 to 64 digits")
    prompt: str
    system: str = ""
    tools: tuple[dict[str, JsonValue], ...] = ()
    images: tuple[ImageRecord, ...] = ()
    columns: tuple[ColumnRequest, ...]
    parent_id: str | None = None
    history: dict[int, tuple[str, ...]] = Field(
        default_factory=dict, description="Per column position: the earlier answers (ids) its conversation rests on"
    )


def check_ask(ask: Ask, *, vision: bool, max_images: int, images_before: int) -> None:
    """Refuse what no engine should see.

    Raises:
        InputError: naming the field and what is accepted.
    """
    if not _KEY.fullmatch(ask.key):
        raise InputError("The turn's key is not valid.", "16 to 64 lower-case hex digits are accepted.", field="key")
    if not ask.prompt.strip():
        raise InputError("The prompt is empty.", "Write a question.", field="prompt")
    if len(ask.prompt) + len(ask.system) > MAX_PROMPT_CHARACTERS:
        raise InputError(
            f"The prompt has {len(ask.prompt) + len(ask.system):,} characters.",
            f"At most {MAX_PROMPT_CHARACTERS:,} are accepted.",
            field="prompt",
        )
    for name, text in (("prompt", ask.prompt), ("system", ask.system)):
        _check_text(name, text)
    if not ask.columns:
        raise InputError("No column has an engine.", "Choose an engine for at least one column.", field="columns")
    _check_images(len(ask.images), images_before, vision=vision, max_images=max_images)


def _check_text(name: str, text: str) -> None:
    if "\x00" in text:
        raise InputError(f"The {name} contains a NUL character.", "Remove it.", field=name)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InputError(f"The {name} contains half a character (a lone surrogate).", "Remove it.", field=name) from exc


def _check_images(count: int, before: int, *, vision: bool, max_images: int) -> None:
    if count and not vision:
        raise InputError("This pair reads text only.", "Remove the images or choose a vision pair.", field="images")
    if count + before <= max_images or not count:
        return
    if before:
        raise InputError(
            f"With these the conversation would hold {count + before} images; the models take {max_images}.",
            "Start a new conversation, or send fewer images.",
            field="images",
        )
    raise InputError(f"{count} images are too many.", f"A turn takes at most {max_images}.", field="images")


def parse_tools(text: str) -> tuple[dict[str, JsonValue], ...]:
    """Tools as JSON: a list of OpenAI function tools, or of bare functions.

    Raises:
        InputError: not JSON, not a list, a tool without a name; with line and column.
    """
    if not text.strip():
        return ()
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise InputError(
            f"The tools are not JSON: {exc}.", 'A list like [{"name": "…"}] is accepted.', field="tools"
        ) from exc
    return check_tools(found)


def check_tools(found: object) -> tuple[dict[str, JsonValue], ...]:
    """Tools that are already JSON values; see ``parse_tools``."""
    tools = list(found) if isinstance(found, list | tuple) else [found]
    if len(tools) > MAX_TOOLS:
        raise InputError(f"{len(tools)} tools are too many.", f"At most {MAX_TOOLS} are accepted.", field="tools")
    return tuple(_parse_tool(tool, number) for number, tool in enumerate(tools, start=1))


def _parse_tool(tool: object, number: int) -> dict[str, JsonValue]:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise InputError(
            f"Tool {number} has no name.",
            'Accepted: {"name": …, "description": …, "parameters": {…}}, or the same under "function".',
            field="tools",
        )
    return {"type": "function", "function": function}


def parse_sampling(values: Mapping[str, object], defaults: Sampling) -> Sampling:
    """Sampling parameters from a form or an API call; None and '' mean the default.

    Raises:
        InputError: naming the field and its accepted range.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    try:
        return Sampling.model_validate({**defaults.model_dump(), **given})
    except ValidationError as exc:
        first = exc.errors()[0]
        name = str(first["loc"][0])
        raise InputError(f"{name} is not acceptable: {first['msg']}.", _accepted(name), field=name) from exc


def _accepted(name: str) -> str:
    accepted = {
        "temperature": "Accepted: 0 to 2.",
        "top_p": "Accepted: above 0, up to 1.",
        "max_tokens": "Accepted: 1 to 32768.",
        "seed": "Accepted: a whole number from 0, or nothing.",
        "stop": "Accepted: up to 8 texts.",
    }
    return accepted.get(name, f"Accepted fields: {', '.join(accepted)}.")


def check_options(options: object, accepted: Sequence[str]) -> dict[str, Any]:
    """Options of an API call; None stands for none.

    Raises:
        InputError: no object, or an option that is not among the accepted.
    """
    listed = ", ".join(accepted)
    if not isinstance(options, Mapping | None):
        raise InputError("The options are no JSON object.", f"Accepted: an object with {listed}.", field="options")
    unknown = sorted(set(options or {}) - set(accepted))
    if unknown:
        raise InputError(f"{unknown[0]!r} is no option.", f"Accepted: {listed}.", field="options")
    return dict(options or {})


def parse_stop(text: str) -> tuple[str, ...]:
    """Stop strings, one a line; ``\\n`` stands for a line break."""
    return tuple(line.replace("\\n", "\n") for line in text.splitlines() if line)


def messages_for(
    ask: Ask, parents: Sequence[Trace], chosen: Sequence[StoredAnswer | None], data_url: Callable[[ImageRecord], str]
) -> tuple[dict[str, Any], ...]:
    """The conversation of one column as OpenAI messages.

    Args:
        ask: the new prompt.
        parents: earlier turns, oldest first.
        chosen: for each parent, the answer this column's conversation rests on; None where it has none.
        data_url: canonical PNG bytes of an image as a ``data:`` URL.
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": ask.system}] if ask.system.strip() else []
    for turn, stored in zip(parents, chosen, strict=True):
        if stored is None:
            continue
        messages.append(_user(turn.prompt, turn.images, data_url))
        messages.append({"role": "assistant", "content": stored.answer.text})
    messages.append(_user(ask.prompt, ask.images, data_url))
    return tuple(messages)


def _user(prompt: str, images: Sequence[ImageRecord], data_url: Callable[[ImageRecord], str]) -> dict[str, Any]:
    if not images:
        return {"role": "user", "content": prompt}
    pictures = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": prompt}]}


def chosen_answers(parents: Sequence[Trace], position: int, wanted: Sequence[str]) -> list[StoredAnswer | None]:
    """For each earlier turn the answer that a column goes on from.

    The answer the person looked at (``wanted``), else the column's newest, else the base's, so that a column that was
    added later still has a conversation. An answer without text is no basis, and that turn is left out.
    """
    picked: list[StoredAnswer | None] = []
    for turn in parents:
        mine = [a for a in turn.answers if a.slot.id in wanted]
        same = [a for a in turn.latest_answers if a.slot.position == position]
        base = [a for a in turn.latest_answers if a.slot.label.role == "base"]
        candidates = [a for a in (*mine, *same, *base, *turn.latest_answers) if a.answer.text]
        picked.append(candidates[0] if candidates else None)
    return picked
