"""llama.cpp's base file: byte for byte as its tools/perplexity writes it, and whatever is none is refused by name."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.benchmark import kl_base_file
from components.benchmark.corpora import CONVENTIONS, cut, windows
from components.benchmark.kl_base_file import check_room, read_kl_base, write_kl_base
from components.benchmark.service import BenchmarkService, BenchmarkSettings
from components.benchmark.spec import BenchmarkSpec
from components.core.errors import InputError, JobError
from components.engines.catalog import Catalog
from components.profiles.loader import load_pair

ROOT = Path(__file__).parents[3]
IDS, WINDOW, CHUNKS = 11, 8, 3
WORDS, ROWS = 16, 3  # 2 * ((11 + 1) / 2) + 4; tokens 5, 6, 7 of each window


def rows_of(chunk: int) -> kl_base_file.Words:
    return np.arange(ROWS * WORDS, dtype=np.uint16).reshape(ROWS, WORDS) + 1000 * chunk


def tokens() -> list[list[int]]:
    return [[(chunk * WINDOW + place) % IDS for place in range(WINDOW)] for chunk in range(CHUNKS)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "base.kld"
    with write_kl_base(path, tokens(), IDS) as add:
        for chunk in range(CHUNKS):
            add(rows_of(chunk))
    return path


def test_the_bytes_are_llama_cpps(file: Path) -> None:
    expected = b"_logits_" + struct.pack("<Iii", WINDOW, IDS, CHUNKS)
    expected += struct.pack(f"<{WINDOW * CHUNKS}i", *[token for window in tokens() for token in window])
    for chunk in range(CHUNKS):
        expected += struct.pack(f"<{ROWS * WORDS}H", *rows_of(chunk).reshape(-1))
    assert file.read_bytes() == expected
    assert [entry.name for entry in file.parent.iterdir()] == ["base.kld"]


def test_what_was_written_is_read(file: Path) -> None:
    base = read_kl_base(file)
    assert (base.window, base.ids, base.chunks, base.rows, base.words) == (WINDOW, IDS, CHUNKS, ROWS, WORDS)
    assert base.size_bytes == file.stat().st_size
    for chunk in range(CHUNKS):
        np.testing.assert_array_equal(base.read_rows(file, chunk), rows_of(chunk))
    second = base.chunk(1, bos=None)
    assert [*second.context, *second.targets] == tokens()[1]
    assert len(second.targets) == ROWS
    assert base.chunk(1, bos=9).context[0] == 9


def test_a_text_gives_the_chunks_that_it_gives_without_a_file(tmp_path: Path) -> None:
    convention, text = CONVENTIONS["llama.cpp-512"], [token % 50 for token in range(1200)]
    plain = windows(text, convention, 1)
    assert plain[1][0] == text[511]  # as it stands in the text; models read BOS there
    with write_kl_base(tmp_path / "base.kld", plain, 50) as add:
        for _ in plain:
            add(np.zeros((255, 54), dtype=np.uint16))
    base = read_kl_base(tmp_path / "base.kld")
    assert [base.chunk(index, 1) for index in range(base.chunks)] == cut(text, convention, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"_logitz_" + data[8:], "does not begin with _logits_"),
        (lambda data: data[:15], "does not begin with _logits_"),
        (lambda data: data[:8] + struct.pack("<i", -1) + data[12:], "-1 tokens"),
        (lambda data: data[:16] + struct.pack("<i", 2**30) + data[20:], "1073741824 chunks"),
        (lambda data: data[:60], "ends within its tokens"),
        (lambda data: data[:20] + struct.pack("<i", IDS) + data[24:], "beyond its vocabulary"),
        (lambda data: data[:-1], "bytes of"),
    ],
)
def test_what_is_no_such_file_is_refused_with_what_is_wrong(file: Path, change: object, words: str) -> None:
    file.write_bytes(change(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(InputError, match=words) as raised:
        read_kl_base(file)
    assert raised.value.field == "overrides.kl_base_file"


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "any.kld"
    path.write_bytes(b"_logits_" + data)
    try:
        assert read_kl_base(path).size_bytes <= len(data) + 8
    except InputError as refused:
        assert "any.kld" in str(refused)


def test_a_file_that_was_not_finished_has_no_name(tmp_path: Path) -> None:
    path = tmp_path / "base.kld"
    with pytest.raises(ValueError, match="1 of 3 chunks"), write_kl_base(path, tokens(), IDS) as add:
        add(rows_of(0))
    with pytest.raises(ValueError, match="rows of shape"), write_kl_base(path, tokens(), IDS) as add:
        add(rows_of(0)[:, :-1])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_seen_before_the_first_chunk(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"takes 1000000000\.0 GB"):
        check_room(tmp_path / "base.kld", 10**18)


def prepared(**overrides: object) -> BenchmarkSpec:
    catalog = Catalog([load_pair(ROOT / "profiles", "embedded")])
    service = BenchmarkService(catalog, None, None, BenchmarkSettings(ROOT, ROOT, "embedded", "cpu"))  # type: ignore[arg-type]
    return service.prepare({"models": ["embedded/w4a16"], "suite": "quality", "overrides": overrides})


def test_a_file_takes_the_place_of_texts_and_questions(file: Path) -> None:
    quality = prepared(kl_base_file=str(file)).quality
    assert (quality.kl_base_file, quality.texts, quality.questions, quality.prompt_lengths) == (str(file), (), (), ())
    assert prepared(write_kl_base=True).quality.write_kl_base
    assert prepared().quality.kl_base_file is None


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"kl_base_file": "base.kld"}, "overrides.kl_base_file"),
        ({"kl_base_file": "/no/such/file.kld"}, "overrides.kl_base_file"),
        ({"write_kl_base": True, "convention": "whole-512"}, "overrides.write_kl_base"),
    ],
)
def test_a_bad_wish_is_refused_by_field(overrides: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as refused:
        prepared(**overrides)
    assert refused.value.field == field


def test_a_file_is_read_or_written_and_must_fit_the_engines(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="read or written, not both"):
        prepared(kl_base_file=str(file), write_kl_base=True)
    long = tmp_path / "long.kld"
    with write_kl_base(long, [[1] * 4096], IDS) as add:
        add(np.zeros((2047, WORDS), dtype=np.uint16))
    with pytest.raises(InputError, match="chunks of 4096 tokens"):
        prepared(kl_base_file=str(long))
