"""What a repository would hold: the weights and what serving needs, the card, and how it was made. Reads files only.

Folders of this machine have no place in a public repository: text files that name one are written anew without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from components.core.errors import InputError
from components.publish.records import PublishFile

CARD = "README.md"
_RECORD = "record"
_HOW = "diptych"  # folder of the repository with the recipe's script and packages
_RECORDED = ("quantize.py", "requirements.txt", "packages.txt", "summary.json")
_LEFT_OUT = frozenset({"diptych-prepared.json", CARD})  # the base's own card is not this model's
# Written here or by a tool, so that they may name a folder. A tokenizer is never touched: "/root" can be a token of it.
_MAY_NAME_FOLDERS = frozenset({"recipe.yaml", "config.json", "quantization_config.json"})


def repository_content(
    folder: Path, packed: str, card: str, private_folders: Mapping[str, str]
) -> tuple[tuple[PublishFile, ...], dict[str, str]]:
    """Files, and the content of those that are written for the hub.

    Args:
        folder: of the job that made the model.
        packed: where the quantized weights are in its result; "." unless unpacked ones are served there.
        card: Markdown.
        private_folders: folders of this machine → what stands for each, longest first.

    Raises:
        InputError: the files are gone.
    """
    result = folder / "result"
    root = result / packed
    if not root.is_dir():
        raise InputError("What the job made is no longer on the disk.", "Run the job again.", field="model")
    found = {path.name: path for path in sorted(root.iterdir()) if path.is_file() and path.name not in _LEFT_OUT}
    record = result / _RECORD
    found |= {f"{_HOW}/{name}": record / name for name in _RECORDED if (record / name).is_file()}
    if not any(name.endswith(".safetensors") for name in found):
        raise InputError("The job's result holds no weights.", "Run the job again.", field="model")
    files: list[PublishFile] = []
    texts = {CARD: without_folders(card, private_folders)}
    for name, path in found.items():
        may_name_folders = name in _MAY_NAME_FOLDERS or name.startswith(f"{_HOW}/")
        cleaned = _cleaned(path, private_folders) if may_name_folders else None
        if cleaned is None:
            source = path.relative_to(folder).as_posix()
            files.append(PublishFile(name=name, size_bytes=path.stat().st_size, source=source))
        else:
            texts[name] = cleaned
    files += [PublishFile(name=name, size_bytes=len(text.encode()), source=None) for name, text in texts.items()]
    return tuple(sorted(files, key=lambda file: (file.name != CARD, file.name))), texts


def without_folders(text: str, private_folders: Mapping[str, str]) -> str:
    """The text, a word in the place of each folder of this machine."""
    for folder, word in private_folders.items():
        text = re.sub(re.escape(folder) + r"(?![\w.-])", word, text)  # not where a longer name only begins alike
    return text


def private_folders(job_folder: Path, state_dir: Path, repository: Path, home: Path) -> dict[str, str]:
    """Folders whose names are nobody's business, the longest first: each goes before the one that it lies in."""
    known = {str(job_folder): "JOB", str(state_dir): "STATE", str(repository): "DIPTYCH", str(home): "HOME"}
    kept = {folder: word for folder, word in known.items() if len(Path(folder).parts) > 1}
    return dict(sorted(kept.items(), key=lambda item: -len(item[0])))


def _cleaned(path: Path, folders: Mapping[str, str]) -> str | None:
    """The text without the machine's folders; None where it names none."""
    text = path.read_text(encoding="utf-8")
    cleaned = without_folders(text, folders)
    return None if cleaned == text else cleaned
