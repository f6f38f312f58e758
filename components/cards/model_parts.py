"""The sections of a card that are told by profiles and files: details, recipe, usage, files, licence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import yaml

from components.cards.facts import PROSE_PARTS, CardFacts
from components.cards.markdown import code, prose, table, text
from components.cards.writer import CardWriter
from components.core.markdown import fenced
from components.profiles.argv import capacity_flags, model_flags
from components.profiles.schema import ModelProfile, PairProfile

_SHAPE = (
    ("LM layers", ("num_hidden_layers", "n_layers")),
    ("Hidden size", ("hidden_size", "dim")),
    ("Intermediate size", ("intermediate_size", "hidden_dim")),
    ("Attention heads", ("num_attention_heads", "n_heads")),
    ("Key/value heads", ("num_key_value_heads", "n_kv_heads")),
    ("Head dimension", ("head_dim",)),
    ("Vocabulary size", ("vocab_size",)),
)
_GIB = 1024**3
_PLAN = "the memory plan"
_CONFIG, _PROFILE, _FILES = "the model's config", "the pair's profile", "the model's files"


def write_details(writer: CardWriter, facts: CardFacts) -> None:
    """The table of what the model is."""
    writer.heading("Model Details")
    serve = facts.pair.serve_of(facts.model)
    rows = [
        ["Base Model", code(facts.base_name)],
        ["Scheme", writer.fact(facts.model.scheme, _PROFILE)],
        ["Activation and Compute Type", text(serve.dtype)],
    ]
    parts = _text_config(facts.config)
    for words, names in _SHAPE:
        value = next((parts[name] for name in names if isinstance(parts.get(name), int)), None)
        if value is not None:
            rows.append([words, writer.fact(value, _CONFIG)])
    rows.append(["Context served", f"{writer.fact(serve.max_model_len, _PROFILE)} tokens"])
    kept = ", ".join(facts.model.unquantized)
    rows.append(["Preserved in 16 bits", text(kept) if kept else "not stated"])
    if facts.model.emulated:
        rows.append(["Emulated", "measured with the scheme's numbers computed in 16 bits"])
    writer.write(table(["Property", "Value"], rows))
    if facts.pair.base.source.kind != "hub":
        writer.lacks("The base's repository on the hub (base_model holds its name in this installation)")
    if not facts.config:
        writer.lacks("Architecture (the model's config.json is not at hand)")


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def write_quantization(writer: CardWriter, facts: CardFacts) -> None:
    """The recipe as it was used, and what it did to the size."""
    writer.heading("Quantization Configuration")
    settings = facts.config.get("quantization_config") or facts.config.get("quantization")
    if isinstance(settings, dict) and settings:
        writer.write(fenced(orjson.dumps(settings, option=orjson.OPT_INDENT_2).decode(), "json"))
    elif not facts.quantize_spec:
        writer.write("The configuration is not at hand.")
        writer.lacks("Quantization configuration")
    recipe = facts.quantize_spec.get("recipe")
    if isinstance(recipe, dict):
        writer.write("Recipe:", fenced(orjson.dumps(recipe, option=orjson.OPT_INDENT_2).decode(), "json"))
    result, source = facts.quantize_result, facts.quantize_job or ""
    before, after = result.get("size_before_bytes"), result.get("size_after_bytes")
    if isinstance(before, int) and isinstance(after, int):
        shown = f"{writer.plain(before / 1e6, source)} MB before, {writer.plain(after / 1e6, source)} MB after"
        writer.write(f"Size: {shown}. Made by job {code(source)}.")
    versions = result.get("versions")
    if isinstance(versions, dict):
        names = ", ".join(f"{text(name)} {writer.fact(value, source)}" for name, value in versions.items())
        writer.write(f"Made with {names}.")
    else:
        writer.lacks("Versions of the quantization tool (it was not made by a job of this installation)")


def write_calibration(writer: CardWriter, facts: CardFacts) -> None:
    """Where the calibration data were from."""
    writer.heading("Calibration Dataset")
    found = facts.quantize_result.get("calibration")
    if isinstance(found, dict) and found:
        writer.write(fenced(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode(), "json"))
    elif facts.quantize_job:
        writer.write("The recipe takes no data.")
    else:
        writer.write("Not recorded.")
        writer.lacks("Calibration data (it was not made by a job of this installation)")
    _own_words(writer, facts, "calibration")


def write_intended_use(writer: CardWriter, facts: CardFacts) -> None:
    """What people wrote of it; nothing where they did not."""
    if "intended_use" in facts.prose.parts:
        writer.heading("Intended Use and Limitations")
        _own_words(writer, facts, "intended_use")


def _own_words(writer: CardWriter, facts: CardFacts, part: str) -> None:
    if part in facts.prose.parts:
        writer.write(prose(facts.prose.parts[part]))


def write_acknowledgments(writer: CardWriter, facts: CardFacts) -> None:
    """The base, the tool and the engine; what people add; and which parts people wrote."""
    writer.heading("Acknowledgments")
    versions = facts.quantize_result.get("versions")
    tools = ", ".join(text(name) for name in versions) if isinstance(versions, dict) else "not recorded"
    writer.write(f"Original model: {code(facts.base_name)}. Quantization tool: {tools}. Deployment engine: vLLM.")
    _own_words(writer, facts, "acknowledgments")
    written = facts.prose
    if written.version and written.written_at is not None:
        parts = ", ".join(PROSE_PARTS[name].lower() for name in PROSE_PARTS if name in written.parts)
        when = writer.fact(written.written_at.date().isoformat(), "written by hand")
        number = writer.fact(written.version, "written by hand")
        writer.write(f"Written by hand, not measured: {parts} (version {number}, {when}).")


def write_hardware(writer: CardWriter, facts: CardFacts) -> None:
    """What the weights need, and the memory plan by size of GPU."""
    writer.heading("Hardware Requirements")
    weights = sum(file.size_bytes for file in facts.files if file.name.endswith(".safetensors"))
    if weights:
        shown = writer.plain(weights / _GIB, _FILES, digits=3)
        writer.write(f"Weights: {shown} GiB on disk; beside them the KV cache and the engine's own memory.")
    else:
        writer.write("The size of the weights is not known here.")
    if not facts.hardware:
        writer.lacks("Hardware table (the model's shape is not known here)")
        return
    rows = []
    for row in facts.hardware:
        name = f"{writer.fact(row.gpu_gb, _PLAN)} GB ({text(row.examples)})"
        if row.gpus is None:
            rows.append([name, "does not fit", "", ""])
        else:
            context = f"{writer.fact(row.context, _PLAN)} tokens"
            rows.append([name, f"{writer.fact(row.gpus, _PLAN)}×", context, code(" ".join(row.flags))])
    writer.write(table(["GPU VRAM", "GPUs", "Context of one user", "vLLM"], rows))
    writer.write("Planned by formula from the weights' headers and the profile's settings, not measured on these GPUs.")


def write_usage(writer: CardWriter, facts: CardFacts) -> None:
    """Commands with the settings that the figures above were measured with."""
    writer.heading("Usage with vLLM")
    settings = vllm_settings(facts.pair, facts.model)
    writer.write(
        "The settings with which this model was served and measured; memory and parallelism count on GPUs only:"
    )
    writer.write(fenced(yaml.safe_dump(settings, sort_keys=False).rstrip(), "yaml"))
    writer.heading("Docker Deployment", level=3)
    name = facts.model.id
    docker = (
        "docker run --rm --gpus all --ipc=host -p 8000:8000 \\\n  -v /path/to/model:/model \\\n"
        f"  -v /path/to/vllm.yaml:/vllm.yaml --name {name} vllm/vllm-openai --config /vllm.yaml"
    )
    writer.write(fenced(docker, "bash"))
    writer.heading("Inference Test", level=3)
    body = orjson.dumps(
        {"model": name, "messages": [{"role": "user", "content": facts.pair.examples[0].prompt if facts.pair.examples
         else "What is 2+2? One word."}], "max_tokens": 32}
    ).decode()  # fmt: skip
    quoted = body.replace("'", "'\\''")
    writer.write(fenced(
        "curl http://localhost:8000/v1/chat/completions \\\n  -H 'Content-Type: application/json' \\\n"
        f"  -d '{quoted}'", "bash",
    ))  # fmt: skip


def vllm_settings(pair: PairProfile, model: ModelProfile) -> dict[str, Any]:
    """What a model is served with, as a configuration file of vLLM names it."""
    serve = pair.serve_of(model)
    settings: dict[str, Any] = {"model": "/model", "served-model-name": model.id}
    for flag in (*model_flags(serve), *capacity_flags(serve, "cuda")):
        name, given, value = flag.removeprefix("--").partition("=")
        settings[name] = yaml.safe_load(value) if given else True
    settings["generation-config"] = serve.generation_config
    if pair.vision:
        settings["limit-mm-per-prompt"] = {"image": pair.max_images}
    if serve.tool_call_parser:
        settings["tool-call-parser"] = serve.tool_call_parser
    if serve.enable_auto_tool_choice:
        settings["enable-auto-tool-choice"] = True
    return settings


def write_notes(writer: CardWriter, facts: CardFacts) -> None:
    """Tokenizer, and the limit of pictures."""
    writer.heading("Notes")
    writer.heading("Tokenizer", level=3)
    if facts.pair.serve_of(facts.model).tokenizer_mode == "mistral":
        writer.write("Tekken (tekken.json): serve it with `tokenizer_mode: mistral`, as it was measured.")
    else:
        writer.write("The Hugging Face tokenizer of the folder, as it was measured.")
    if facts.pair.vision:
        writer.heading("Vision: Image Size Limit", level=3)
        limit = writer.fact(facts.pair.max_image_size, _PROFILE)
        writer.write(
            f"Pictures whose longer side exceeds {limit} pixels are scaled down; base and this model were measured "
            "with the same limit."
        )
    _own_words(writer, facts, "notes")


def write_files(writer: CardWriter, facts: CardFacts) -> None:
    """Files with their sizes."""
    writer.heading("Files in This Repository")
    if not facts.files:
        writer.write("The files are not at hand.")
        writer.lacks("List of files")
        return
    rows = [[code(file.name), _size(writer, file.size_bytes)] for file in facts.files]
    writer.write(table(["File", "Size"], rows))


def _size(writer: CardWriter, size_bytes: int) -> str:
    unit, words = next((one for one in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size_bytes >= one[0]), (1, "bytes"))
    return f"{writer.plain(size_bytes / unit, _FILES, digits=3)} {words}"


def write_licence(writer: CardWriter, facts: CardFacts) -> None:
    """Licence of the base, and how to cite."""
    writer.heading("License")
    if facts.licence:
        writer.write(f"This quantization follows the base model's licence: {writer.fact(facts.licence, 'the base')}.")
    else:
        writer.write("The base model's licence is not known here; read it before you publish.")
        writer.lacks("Licence of the base")
    writer.heading("Citation")
    key = facts.engine_id.replace("/", "-")
    title = " ".join(f"{facts.pair.title}, {facts.model.label}".split()).replace("{", "(").replace("}", ")")
    writer.write(
        fenced(f"@misc{{{key},\n  title = {{{title}}},\n  note = {{Quantized from {facts.base_name}}}\n}}", "bibtex")
    )
