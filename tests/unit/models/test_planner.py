"""Names and options of a memory plan, and what the page is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.engines.catalog import Catalog
from components.engines.model_memory import ModelMemoryReader
from components.engines.prepare import ModelPreparer
from components.models.memory_plan import MemoryPlanner
from components.models.memory_view import plan_view
from components.profiles.loader import list_pairs

ROOT = Path(__file__).parents[3]
DEFAULT = "mistral-small-3.2-24b/nvfp4a16"


@pytest.fixture
def planner(tmp_path: Path) -> MemoryPlanner:
    reader = ModelMemoryReader(ModelPreparer(tmp_path, ROOT), ROOT / "assets/published/models.yaml")
    return MemoryPlanner(Catalog(list_pairs(ROOT / "profiles")[0]), reader, ROOT / "profiles")


def plan(planner: MemoryPlanner, named: Any = "", options: Any = None, *, may_read: bool = True) -> Any:
    return planner.plan(named, {} if options is None else options, default=DEFAULT, may_read=may_read)


def test_a_candidate_is_planned_beside_its_base(planner: MemoryPlanner) -> None:
    for named in ("", DEFAULT):
        assert [memory.name for memory, _ in plan(planner, named).models] == ["mistral-small-3.2-24b/base", DEFAULT]
    assert [m.name for m, _ in plan(planner, "pixtral-12b").models] == ["pixtral-12b/base", "pixtral-12b/w8a8"]
    assert [m.name for m, _ in plan(planner, "pixtral-12b/base").models] == ["pixtral-12b/base"]


def test_every_model_that_can_be_chosen_has_a_plan(planner: MemoryPlanner) -> None:
    for engine_id, label in planner.choices():
        assert label
        view = plan_view(plan(planner, engine_id))
        assert len(view["fits"]) == 24
        assert all(cell["words"] for cell in view["fits"])
        assert all(len(seat["gpus"]) == seat["tensor_parallel_size"] for c in view["fits"] for seat in c["seats"])


def test_options_change_the_plan(planner: MemoryPlanner) -> None:
    whole = plan(planner, options={"users": "16", "context": 32768, "kv_cache_dtype": "auto"})
    assert (whole.use.users, whole.use.context, whole.use.kv_bits) == (16, 32768, 16)
    shown = plan_view(whole)
    assert shown["models"][0]["kv_bytes"] == 16 * 32768 * 160 * 1024
    flags = next(cell for cell in shown["fits"] if cell["seats"])["seats"][0]["flags"]
    assert "--kv-cache-dtype=auto" in flags
    assert "--max-num-seqs=32" in flags


def cell(planned: Any, memory_gb: int, gpus: int) -> dict[str, Any]:
    found = (one for one in plan_view(planned)["fits"] if (one["memory_gb"], one["gpus"]) == (memory_gb, gpus))
    return next(found)


def test_a_cell_says_how_to_start_it(planner: MemoryPlanner) -> None:
    small = cell(plan(planner, "mistral-small-3.2-24b"), 80, 1)
    assert small["start"] == "python app.py --pair mistral-small-3.2-24b --placement planned"
    assert [seat["command"] for seat in small["seats"]] == ["", ""], "by hand it would be served without its eyes"
    large = plan(planner, "pixtral-large-2411", {"context": 16384, "pipeline_parallel_size": "2"})
    eight = cell(large, 80, 8)
    assert eight["start"] == (
        "python app.py --pair pixtral-large-2411 --placement planned "
        "--serve max_model_len=16384,pipeline_parallel_size=2"
    )
    assert "max_num_seqs=16" in cell(plan(planner, "pixtral-large-2411", {"users": 16}), 141, 8)["start"]
    assert eight["note"] == "tensor parallel 2, pipeline 2"
    base = eight["seats"][0]
    assert base["command"].startswith("CUDA_VISIBLE_DEVICES=0,1,2,3 vllm serve ")
    for flag in ("--tensor-parallel-size=2", "--pipeline-parallel-size=2", "--max-model-len=16384"):
        assert flag in base["command"].split()
        assert flag in base["flags"]
    assert cell(large, 24, 1)["start"] == "", "it does not fit"
    other = plan(planner, "pixtral-large-2411/w4a16")
    assert cell(other, 80, 8)["start"] == "", "the app plans for the pair's first candidate"


def test_an_arrangement_can_be_asked_for(planner: MemoryPlanner) -> None:
    turns = cell(plan(planner, "pixtral-large-2411", {"arrangement": "alternately"}), 80, 8)
    assert turns["words"] == "One after the other"
    assert turns["start"] == "python app.py --pair pixtral-large-2411 --placement alternately"
    on_large = cell(plan(planner, "pixtral-large-2411", {"arrangement": "alternately"}), 141, 8)
    assert on_large["start"].endswith("--serve base.tensor_parallel_size=2")
    apart = plan(planner, "pixtral-large-2411", {"arrangement": "apart", "data_parallel_size": 2})
    assert [seat["gpus"] for seat in cell(apart, 141, 8)["seats"]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert "--placement apart" in cell(apart, 141, 8)["start"]


@pytest.mark.parametrize(
    ("named", "options", "field"),
    [
        ("nothing", {}, "model"), (7, {}, "model"), ("a\nb", {}, "model"), ("x" * 2000, {}, "model"),
        ("/nowhere/at/all", {}, "model"), ("", {"users": 0}, "users"), ("", {"users": "many"}, "users"),
        ("", {"users": True}, "users"), ("", {"context": 10**12}, "context"), ("", {"wish": 1}, "wish"),
        ("", {"kv_cache_dtype": "int2"}, "kv_cache_dtype"), ("", ["users"], "options"),
        ("", {"arrangement": "stacked"}, "arrangement"), ("", {"pipeline_parallel_size": 65}, "pipeline_parallel_size"),
    ],
)  # fmt: skip
def test_bad_input_is_named(planner: MemoryPlanner, named: Any, options: Any, field: str) -> None:
    with pytest.raises(InputError) as raised:
        plan(planner, named, options)
    assert raised.value.field == field


def test_visitors_have_nothing_read_for_them(planner: MemoryPlanner) -> None:
    for named in ("/etc", "owner/name"):
        with pytest.raises(InputError, match="no model of this page"):
            plan(planner, named, may_read=False)
    assert plan(planner, may_read=False).fits
