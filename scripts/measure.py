"""Measure a candidate against its base from the command line, without the page: prints PPL, KL and the rest.

    python scripts/measure.py --pair smollm2-135m --candidate fp8-dynamic --text FILE [--convention llama.cpp-512]
    python scripts/measure.py --pair smollm2-135m --candidate-folder FOLDER --text FILE --chunks 20
    python scripts/measure.py --text FILE --chunks 20 --write-kl-base base.kld
    python scripts/measure.py --kl-base base.kld
    python scripts/measure.py --suite accuracy --lm-eval diptych_choices diptych_sums

Runs the same driver as a job of the app, in a state folder of its own unless one is named; a second run after a kill
goes on from what the first has finished. ``--json`` prints the records as they would be stored.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.benchmark.job import KL_BASE, RECORDS  # noqa: E402
from components.benchmark.service import BenchmarkService, BenchmarkSettings  # noqa: E402
from components.core.benchmarks import BenchmarkRecord, RecordBatch  # noqa: E402
from components.core.errors import AppError  # noqa: E402
from components.engines.catalog import Catalog  # noqa: E402
from components.jobs.records import JobFolder  # noqa: E402
from components.profiles.loader import load_pair  # noqa: E402
from components.profiles.schema import FolderSource, ModelProfile  # noqa: E402
from components.services import count_gpus  # noqa: E402


def catalog_of(options: argparse.Namespace) -> tuple[Catalog, str]:
    """The pair, with the named folder as one more candidate; and the candidate's engine id."""
    pair = load_pair(ROOT / "profiles", options.pair)
    catalog = Catalog([pair])
    if options.candidate_folder is None:
        return catalog, f"{pair.id}/{options.candidate or pair.candidates[0].id}"
    folder: Path = options.candidate_folder.resolve()
    model = ModelProfile(
        id="named-folder", role="candidate", label=folder.name[:80], scheme=options.scheme,
        source=FolderSource(kind="folder", folder=str(folder)),
        description="A folder named on the command line.", prepare="image-limit" if pair.vision else "none",
    )  # fmt: skip
    return catalog, catalog.add(pair, model).engine_id


def run(options: argparse.Namespace) -> tuple[BenchmarkRecord, ...]:
    """The driver as a child; its records.

    Raises:
        AppError: the options can't be used, or the job failed.
    """
    catalog, candidate = catalog_of(options)
    state = options.state_dir.resolve()
    settings = BenchmarkSettings(state, ROOT, options.pair, "cuda" if count_gpus() else "cpu")
    # Without a queue and a database: only the spec is made here.
    service = BenchmarkService(catalog, None, None, settings)  # type: ignore[arg-type]
    overrides = {
        "kl_base_file": str(options.kl_base.resolve()) if options.kl_base else None,
        "write_kl_base": options.write_kl_base is not None or None,
        "text_file": str(options.text.resolve()) if options.text else None, "convention": options.convention,
        "chunks": options.chunks, "all_chunks": options.all_chunks, "prompt_lengths": options.prompt_lengths,
        "lm_eval": options.lm_eval, "vision_sets": options.vision_sets, "items": options.items,
    }  # fmt: skip
    given = {name: value for name, value in overrides.items() if value is not None}
    spec = service.prepare({"models": [candidate], "suite": options.suite, "overrides": given})
    folder = JobFolder(state / "jobs" / f"benchmark-{secrets.token_hex(6)}")
    folder.create(json.loads(spec.as_json()))
    subprocess.run([sys.executable, "-m", "components.benchmark.job", str(folder.path)], cwd=ROOT, check=False)
    ended = folder.read_exit()
    if ended is None or ended.state != "SUCCEEDED":
        raise AppError((ended and ended.failure_reason) or "The driver ended without a word.", f"See {folder.path}.")
    if options.write_kl_base is not None:
        shutil.move(folder.result / KL_BASE, options.write_kl_base)
    return RecordBatch.model_validate_json((folder.result / RECORDS).read_bytes()).records


def show(records: tuple[BenchmarkRecord, ...]) -> None:
    """One line a figure, by task."""
    task: tuple[str, str] | None = None
    for record in records:
        if record.value is None:
            continue
        if (record.model, record.task) != task:
            task = (record.model, record.task)
            rests_on = "" if record.n is None else f"{record.n} {record.n_unit}"
            print("\n" + "   ".join(filter(None, (record.task, record.model, rests_on, record.interval))))
        ends = f"  [{record.low:.6g}, {record.high:.6g}]" if record.low is not None and record.high is not None else ""
        floor = f"   floor {record.floor:.3g}" if record.floor is not None else ""
        print(f"  {record.metric:38} {record.value:12.6g}{ends}{floor}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="smollm2-135m")
    parser.add_argument("--candidate", help="id in the pair; default: the one shown first")
    parser.add_argument("--candidate-folder", type=Path, help="a quantized model that is in no profile")
    parser.add_argument("--scheme", default="W4A16", help="of that folder")
    parser.add_argument("--text", type=Path, help="a UTF-8 text; default: the one that comes with Diptych")
    parser.add_argument("--convention", default="llama.cpp-512")
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--all-chunks", action="store_true")
    parser.add_argument(
        "--prompt-lengths", type=int, nargs="*", metavar="TOKENS", help="of generation KL; without a number none"
    )
    parser.add_argument(
        "--kl-base", type=Path, metavar="FILE", help="score the candidate against llama.cpp's --kl-divergence-base file"
    )
    parser.add_argument(
        "--write-kl-base", type=Path, metavar="FILE",
        help="write such a file of the base, for llama-perplexity --kl-divergence; some 25 MB a chunk with 49,152 ids",
    )  # fmt: skip
    parser.add_argument("--lm-eval", nargs="*", metavar="TASK", help="text tasks of the accuracy suite, such as mmlu")
    parser.add_argument("--vision-sets", nargs="*", metavar="SET", help="sets of the accuracy suite, such as chartqa")
    parser.add_argument("--items", type=int, help="of each of them")
    parser.add_argument("--suite", default="quality", choices=("quality", "accuracy", "throughput", "all"))
    parser.add_argument("--state-dir", type=Path, default=Path.home() / ".cache" / "dt-measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        found = run(options)
    except AppError as exc:
        sys.exit(f"{exc.field}: {exc}" if exc.field else str(exc))
    if options.json:
        print(RecordBatch(records=found).model_dump_json(indent=1))
    else:
        show(found)
