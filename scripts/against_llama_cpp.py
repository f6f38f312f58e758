"""Our perplexity and KL beside llama.cpp's own on the same text, each reading the base file that the other has written.

    python scripts/against_llama_cpp.py --perplexity PATH/llama-perplexity --gguf MODEL.gguf --folder FOLDER --text FILE

`llama-perplexity` is built from llama.cpp's sources, which the source package of llama-cpp-python carries too. FOLDER
is the base of the pair as Hugging Face files, such as the one that Diptych made under its state folder; the GGUF is
made from it by llama.cpp's convert_hf_to_gguf.py --outtype f32, so that both compute with the same weights, or is any
other version of the model. Prints llama.cpp's perplexity, ours, and what each of the two finds in both base files.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.core.benchmarks import RecordBatch  # noqa: E402

_NUMBER = r"([-\d.]+(?:e[-+]?\d+)?)"
_OF_LLAMA_CPP = {
    "perplexity": rf"PPL = {_NUMBER}",
    "PPL of the model": rf"Mean PPL\(Q\)\s*: +{_NUMBER}",
    "PPL of the base": rf"Mean PPL\(base\)\s*: +{_NUMBER}",
    "mean KL, nats": rf"Mean +KLD: +{_NUMBER}",
    "median KL, nats": rf"Median +KLD: +{_NUMBER}",
    "99 % KL, nats": rf"99\.0% +KLD: +{_NUMBER}",
    "same top p, %": rf"Same top p: +{_NUMBER}",
}
_OURS = {
    "PPL of the base": "perplexity_base",
    "PPL of the model": "perplexity_candidate",
    "mean KL, nats": "mean_kl_base_to_candidate_nats",
    "median KL, nats": "median_kl_base_to_candidate_nats",
    "99 % KL, nats": "p99_kl_base_to_candidate_nats",
    "same top p, %": "same_top_p_percent",
}


def llama_cpp(options: argparse.Namespace, *more: str) -> dict[str, float]:
    """What `llama-perplexity` tells."""
    argv = [
        str(options.perplexity), "-m", str(options.gguf), "-c", "512", "--chunks", str(options.chunks), "-ngl", "0",
        "-t", str(options.threads), "--no-escape", *more,
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    told = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(f"llama-perplexity ended with {done.returncode}:\n{told[-2000:]}")
    found = {name: re.search(pattern, told) for name, pattern in _OF_LLAMA_CPP.items()}
    return {name: float(match[1]) for name, match in found.items() if match}


def ours(options: argparse.Namespace, *more: str) -> dict[str, float]:
    """What scripts/measure.py tells of the base served as a candidate of itself."""
    argv = [
        sys.executable, str(ROOT / "scripts" / "measure.py"), "--pair", options.pair, "--candidate-folder",
        str(options.folder), "--scheme", "BF16", "--chunks", str(options.chunks), "--prompt-lengths",
        "--state-dir", str(options.state_dir), "--json", *more,
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"measure.py ended with {done.returncode}:\n{done.stderr[-2000:]}")
    records = RecordBatch.model_validate_json(done.stdout[done.stdout.index("{") :]).records
    values = {record.metric: record.value for record in records if record.suite == "quality"}
    return {words: value for words, metric in _OURS.items() if (value := values.get(metric)) is not None}


def show(title: str, found: dict[str, float]) -> None:
    """One line a figure."""
    print(f"\n{title}")
    for name, value in found.items():
        print(f"  {name:26} {value:12.6g}")


def main(options: argparse.Namespace) -> None:
    """All four readings."""
    with tempfile.TemporaryDirectory(prefix="kld-", dir=options.scratch) as folder:
        theirs, own = Path(folder) / "llama-cpp.kld", Path(folder) / "ours.kld"
        text = ("--text", str(options.text))
        show("llama.cpp, the text", llama_cpp(options, "-f", str(options.text), "--kl-divergence-base", str(theirs)))
        show("ours, the text", ours(options, *text, "--write-kl-base", str(own)))
        show("llama.cpp's file read by us (its model as the base, ours as the candidate)",
             ours(options, "--kl-base", str(theirs)))  # fmt: skip
        show("our file read by llama.cpp (our model as the base, its as the candidate)",
             llama_cpp(options, "--kl-divergence-base", str(own), "--kl-divergence"))  # fmt: skip
        show("our file read by us", ours(options, "--kl-base", str(own)))
        show("llama.cpp's file read by llama.cpp",
             llama_cpp(options, "--kl-divergence-base", str(theirs), "--kl-divergence"))  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perplexity", type=Path, required=True, help="the program llama-perplexity")
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="the same model as Hugging Face files")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--pair", default="smollm2-135m")
    parser.add_argument("--chunks", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--state-dir", type=Path, default=Path.home() / ".cache" / "dt-measure")
    parser.add_argument("--scratch", type=Path, default=Path.home() / ".cache", help="for files of 25 MB a chunk")
    main(parser.parse_args())
