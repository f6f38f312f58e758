"""Exact answers on held-out pictures, per question kind: of a served model, or of the committed weights themselves.

    python evaluate.py --count 1000 --out base.json                    # transformers, bfloat16, greedy
    python evaluate.py --count 1000 --uds /path/to.sock --model NAME   # a vLLM server
    python evaluate.py --uds … --model NAME --against base.json        # also: regressions

An answer counts when it equals the expected sentence to the letter. The pictures are drawn from seeds no training step
uses. `--against` compares answer by answer: agreement (parity of two ways to run one model) and regressions.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from held_out import Item, held_out_item
from tokenizer import Turn, encode, load_tokenizer

MAX_TOKENS = 96


def data_url(turn: Turn, number: int) -> str:
    """A picture of a turn as a PNG data URL."""
    buffer = io.BytesIO()
    turn.pictures[number].save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def messages_of(item: Item) -> list[dict[str, Any]]:
    """The chat as an OpenAI client sends it; pictures stand before the text."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": item.system}] if item.system else []
    for turn in item.turns:
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(turn, number)}} for number in range(len(turn.pictures))
        ]
        messages.append({"role": "user", "content": [*parts, {"type": "text", "text": turn.text}]})
        messages.append({"role": "assistant", "content": turn.answer})
    return messages[:-1]


async def served_answers(items: list[Item], url: str, uds: str | None, model: str) -> list[str]:
    """Greedy answers of an OpenAI-compatible server, eight at a time."""
    import httpx

    gate = asyncio.Semaphore(8)
    transport = httpx.AsyncHTTPTransport(uds=uds) if uds else None
    async with httpx.AsyncClient(base_url=url, transport=transport, timeout=300) as client:

        async def answer(item: Item) -> str:
            body = {"model": model, "messages": messages_of(item), "temperature": 0, "max_tokens": MAX_TOKENS}
            async with gate:
                reply = await client.post("/v1/chat/completions", json=body)
            reply.raise_for_status()
            return str(reply.json()["choices"][0]["message"]["content"])

        return list(await asyncio.gather(*(answer(item) for item in items)))


@torch.no_grad()
def transformers_answers(items: list[Item], candidate: Path | None) -> list[str]:
    """Greedy answers of the committed weights through transformers' own forward pass, in bfloat16."""
    import torch_extras

    torch_extras.prepare()
    from export import BASE, hugging_face_folder
    from transformers import Mistral3ForConditionalGeneration

    with tempfile.TemporaryDirectory() as scratch:
        folder = hugging_face_folder(Path(scratch), BASE, candidate)
        model = Mistral3ForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16).eval()
        tokenizer = load_tokenizer(folder / "tekken.json")
    answers = []
    for item in items:
        question = Turn(item.turns[-1].text, item.turns[-1].pictures)
        ids, pictures = encode(tokenizer, [*item.turns[:-1], question], item.system)
        pixels = torch.stack([torch.from_numpy(picture) for picture in pictures]).to(torch.bfloat16)
        sizes = torch.tensor([picture.shape[1:] for picture in pictures])
        inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        output = model.generate(
            **inputs, pixel_values=pixels, image_sizes=sizes, max_new_tokens=MAX_TOKENS, do_sample=False
        )
        answers.append(tokenizer.decode([token for token in output[0, len(ids) :].tolist() if token > 2]))
    return answers


def table(items: list[Item], answers: list[str]) -> dict[str, dict[str, float]]:
    """Right answers, questions and share per kind, of follow-ups, and of all."""
    counts: dict[str, list[bool]] = {}
    for item, answer in zip(items, answers, strict=True):
        for row in (item.kind, *(["follow-up"] if item.follow_up else []), "all"):
            counts.setdefault(row, []).append(answer == item.answer)
    order = [*sorted(set(counts) - {"follow-up", "all"}), "follow-up", "all"]
    return {
        row: {
            "right": sum(counts[row]),
            "asked": len(counts[row]),
            "share": round(sum(counts[row]) / len(counts[row]), 4),
        }
        for row in order
        if row in counts
    }


def comparison(records: list[dict[str, Any]], others: list[dict[str, Any]]) -> dict[str, float]:
    """Answer by answer against an earlier run on the same pictures (the first ones, if that run was shorter)."""
    pairs = list(zip(records, others, strict=False))
    right_before = [(now, then) for now, then in pairs if then["answer"] == then["expected"]]
    lost = sum(now["answer"] != now["expected"] for now, _ in right_before)
    return {
        "compared": len(pairs),
        "same_answer": round(sum(now["answer"] == then["answer"] for now, then in pairs) / len(pairs), 4),
        "right_before": len(right_before),
        "regressions": round(lost / max(1, len(right_before)), 4),
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--uds", help="Unix socket of a server")
    parser.add_argument("--url", default="http://localhost", help="address of a server")
    parser.add_argument("--model", default="", help="the served model's name; without it transformers runs the weights")
    parser.add_argument("--candidate", type=Path, help="folder of a candidate, for transformers")
    parser.add_argument("--against", type=Path, help="JSON of an earlier run")
    parser.add_argument("--out", type=Path, help="write answers and table as JSON")
    return parser.parse_args()


def main() -> None:
    """Ask, count, print."""
    options = arguments()
    items = [held_out_item(index) for index in range(options.count)]
    if options.model:
        answers = asyncio.run(served_answers(items, options.url, options.uds, options.model))
    else:
        answers = transformers_answers(items, options.candidate)
    records = [
        {"kind": item.kind, "question": item.turns[-1].text, "expected": item.answer, "answer": answer}
        for item, answer in zip(items, answers, strict=True)
    ]
    rows = table(items, answers)
    for name, row in rows.items():
        print(f"{name:18} {row['right']:5} / {row['asked']:<5} {100 * row['share']:6.1f} %")
    result: dict[str, Any] = {"count": options.count, "table": rows}
    if options.against:
        result["against"] = comparison(records, json.loads(options.against.read_text())["answers"])
        print(json.dumps(result["against"]))
    if options.out:
        options.out.write_text(json.dumps({**result, "answers": records}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
