"""Published sets of questions about pictures, from the hub's Parquet files to items; only files are fetched, no script.

Metrics and shapes of the questions are those of quantize_bench.md 10; the words of the instructions are ours, so that
base and candidate compare with each other, and with other harnesses only roughly.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from components.benchmark.rows import PICTURE_KINDS
from components.core.errors import InputError, JobError

Row = Mapping[str, Any]
_ROWS_AT_ONCE = 32
_LONG_ANSWER, _SHORT_ANSWER = 2048, 10
_EXPLICIT, _ANYWHERE = "explicit_prompt_relaxed_correctness", "anywhere_in_answer_relaxed_correctness"
_BRIEFLY = "Answer the question using a single word or phrase."
_VQA_RULES = (
    "Answer with a single word, a number or a short phrase. Write numbers in digits. Answer yes or no where that is "
    "what is asked. You must answer."
)
_STEP_BY_STEP = (
    'Work it out step by step, and end with a line of the form "Final Answer: <answer>". The answer is the letter of '
    "an option where there are options, else a word, a short phrase or a number: a number without unit and without "
    "separators of thousands, a percentage with %, a ratio as a decimal number."
)


@dataclass(frozen=True)
class VisionSet:
    """One set.

    Attributes:
        files: which of the repository's Parquet files hold the split.
        columns: those that are read; ``image_N`` where a question has several pictures.
        read: a row → id, kind, question, accepted answers.
        metrics: all are reported.
    """

    id: str
    repo_id: str
    files: re.Pattern[str]
    columns: tuple[str, ...]
    read: Callable[[Row], tuple[str, str, str, list[str]]]
    metrics: tuple[str, ...]
    max_tokens: int


def _vqav2(row: Row) -> tuple[str, str, str, list[str]]:
    answers = [str(one["answer"]) if isinstance(one, Mapping) else str(one) for one in row["answers"]]
    return str(row["question_id"]), str(row["answer_type"]), f"{row['question']}\n{_VQA_RULES}", answers


def _docvqa(row: Row) -> tuple[str, str, str, list[str]]:
    return str(row["questionId"]), "", f"{row['question']}\n{_BRIEFLY}", [str(one) for one in row["answers"]]


def _chartqa(row: Row) -> tuple[str, str, str, list[str]]:
    return "", str(row["type"]), f"{row['question']}\n{_STEP_BY_STEP}", [str(row["answer"])]


def _mathvista(row: Row) -> tuple[str, str, str, list[str]]:
    answer, choices = str(row["answer"]), list(row["choices"] or ())
    if answer in choices:
        answer = _letter(choices.index(answer))
    return str(row["pid"]), str(row["question_type"]), f"{row['query']}\n{_STEP_BY_STEP}", [answer]


def _mmmu(row: Row) -> tuple[str, str, str, list[str]]:
    options = _literal_list(row["options"])
    listed = "".join(f"\n{_letter(number)}. {option}" for number, option in enumerate(options))
    answers = _literal_list(row["answer"]) or [str(row["answer"])]
    subject = re.fullmatch(r"[a-z]+_(.+)_\d+", str(row["id"]))
    return str(row["id"]), subject[1] if subject else "", f"{row['question']}{listed}\n{_STEP_BY_STEP}", answers


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _literal_list(text: object) -> list[str]:
    """MMMU's lists are text that looks as Python writes lists; empty where it is none."""
    try:
        found = ast.literal_eval(str(text))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []
    return [str(one) for one in found] if isinstance(found, list) else []


def _split(name: str, folder: str = "") -> re.Pattern[str]:
    return re.compile(rf"(?:.*/)?{folder}{name}-\d+-of-\d+[\w-]*\.parquet", re.ASCII)


_MMMU_PICTURES = tuple(f"image_{number}" for number in range(1, 8))
VISION_SETS = {
    one.id: one
    for one in (
        VisionSet("vqav2", "lmms-lab/VQAv2", _split("validation"),
                  ("question_id", "answer_type", "question", "answers", "image"), _vqav2, ("vqa_match",),
                  _SHORT_ANSWER),
        VisionSet("docvqa", "lmms-lab/DocVQA", _split("validation", "DocVQA/"),
                  ("questionId", "question", "answers", "image"), _docvqa, ("anls",), _SHORT_ANSWER),
        VisionSet("chartqa", "lmms-lab/ChartQA", _split("test"), ("type", "question", "answer", "image"), _chartqa,
                  (_EXPLICIT, _ANYWHERE), _LONG_ANSWER),
        VisionSet("mathvista", "AI4Math/MathVista", _split("testmini"),
                  ("pid", "question_type", "query", "choices", "answer", "decoded_image"), _mathvista,
                  (_EXPLICIT, _ANYWHERE), _LONG_ANSWER),
        VisionSet("mmmu", "lmms-lab/MMMU", _split("validation"),
                  ("id", "question", "options", "answer", *_MMMU_PICTURES), _mmmu, (_EXPLICIT, _ANYWHERE),
                  _LONG_ANSWER),
    )
}  # fmt: skip


def fetch_items(wanted: VisionSet, limit: int, folder: Path, *, endpoint: str | None = None) -> Path:
    """The first ``limit`` questions as rows.jsonl with pictures beside it, in ``folder``; file after file until enough.

    Rows whose picture is neither PNG nor JPEG are left out.

    Args:
        endpoint: another hub than the usual one.

    Raises:
        JobError: the hub does not give the set, or its files hold something else than they did.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / "rows.jsonl"
    if target.is_file():
        return target
    lines = list[bytes]()
    for path in _files(wanted, folder.parent / "hub", endpoint):
        for row in _rows(path, wanted):
            line = _line(wanted, row, len(lines), folder)
            lines += [line] if line else []
            if len(lines) == limit:
                break
        if len(lines) == limit:
            break
    if len(lines) < 2:
        raise JobError(f"{wanted.repo_id} holds no questions that can be asked.", "Name a rows.jsonl of your own.")
    target.write_bytes(b"".join(line + b"\n" for line in lines))
    return target


def _files(wanted: VisionSet, cache: Path, endpoint: str | None) -> Iterator[Path]:
    from huggingface_hub import HfApi, hf_hub_download

    try:
        info = HfApi(endpoint=endpoint).dataset_info(wanted.repo_id, timeout=20.0)
        names = sorted(one.rfilename for one in info.siblings or [] if wanted.files.fullmatch(one.rfilename))
        if not names:
            raise JobError(f"{wanted.repo_id} no longer has such files.", "Name a rows.jsonl of your own.")
        for name in names:
            yield Path(
                hf_hub_download(
                    wanted.repo_id, name, repo_type="dataset", revision=info.sha, cache_dir=cache, endpoint=endpoint
                )
            )
    except (JobError, GeneratorExit):
        raise
    except Exception as exc:  # no network, a gate, a full disk: each library's own
        raise JobError(
            f"The hub did not give {wanted.repo_id}.",
            "See that the hub can be reached and that HF_TOKEN may read it, or name a rows.jsonl of your own.",
            detail=repr(exc)[:500],
        ) from exc


def _rows(path: Path, wanted: VisionSet) -> Iterator[Row]:
    import pyarrow as pa  # 0.2 s that only this needs
    import pyarrow.parquet as pq

    try:
        for part in pq.ParquetFile(path).iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(wanted.columns)):
            yield from part.to_pylist()
    except (pa.ArrowException, OSError) as exc:
        raise JobError(f"{path.name} of {wanted.repo_id} can't be read as Parquet.", detail=str(exc)[:300]) from exc


def _line(wanted: VisionSet, row: Row, number: int, folder: Path) -> bytes | None:
    try:
        row_id, kind, question, answers = wanted.read(row)
    except (KeyError, TypeError, ValueError) as exc:
        raise JobError(
            f"{wanted.repo_id} has other columns than it had.", "Name a rows.jsonl of your own.", detail=repr(exc)
        ) from exc
    pictures = [row[name] for name in wanted.columns if "image" in name and row.get(name)]
    names = [_keep(picture, folder) for picture in pictures]
    if not answers or not names or None in names:
        return None
    return orjson.dumps({
        "id": f"{row_id or number}"[-80:], "kind": kind[:80], "metric": wanted.metrics[0], "images": names,
        "messages": [{"role": "user", "content": question}], "answers": [answer for answer in answers[:64] if answer],
    })  # fmt: skip


def _keep(picture: Any, folder: Path) -> str | None:
    """The picture's own bytes as a file named after them; None where they are no kind that can be sent."""
    data = picture.get("bytes") if isinstance(picture, Mapping) else picture
    kind = PICTURE_KINDS.get(data[:4]) if isinstance(data, bytes) else None
    if kind is None or not isinstance(data, bytes):
        return None
    name = f"{hashlib.sha256(data).hexdigest()[:32]}.{kind}"
    if not (folder / name).exists():
        (folder / name).write_bytes(data)
    return name


def check_set_names(names: tuple[str, ...]) -> None:
    """Only those that are known.

    Raises:
        InputError: one is not.
    """
    for name in names:
        if name not in VISION_SETS:
            raise InputError(
                f"There is no set {name[:40]!r}.", f"Accepted: {', '.join(VISION_SETS)}.", field="overrides.vision_sets"
            )
