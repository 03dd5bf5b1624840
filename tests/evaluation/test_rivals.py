from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from telepath.config import Params
from telepath.evaluation.evidence import Cost
from telepath.evaluation.rivals import RIVALS, STAGES, Effort, compare, what_it_sees, write_comparison
from tests.evaluation.conftest import returns


@pytest.fixture
def comparison(params: Params) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    tables = [
        returns(rng, {"source": 800, "random": 40, "zero_shot": 300, "telepath": 850}),
        returns(rng, {"pada": 600}),
        returns(rng, {"bco": 0}),
        returns(rng, {"gaifo": 300}),
    ]
    steps = {"telepath": 14000, "pada": 15000, "bco": 15030, "gaifo": 14000}
    costs = {stage: Cost(1.5, 600) for stage in ("explore_target", "train_belief", "label", "train_labelled@gaifo")}
    return compare(tables, {name: Effort(count, 0) for name, count in steps.items()}, costs, params)


def test_every_agent_that_was_judged_has_a_row(comparison: pd.DataFrame) -> None:
    assert comparison["agent"].tolist() == ["source", "random", "zero_shot", "pada", "telepath", "bco", "gaifo"]
    assert comparison["steps"].tolist() == [0, 0, 0, 15000, 14000, 15030, 14000]
    assert (comparison["low"] <= comparison["return"]).all()
    assert (comparison["return"] <= comparison["high"]).all()


def test_the_page_says_what_each_may_see(comparison: pd.DataFrame, params: Params, tmp_path: Path) -> None:
    write_comparison(comparison, params, tmp_path)
    page = (tmp_path / "rivals.md").read_text()
    assert f"# The rivals on {params.task}" in page
    assert "| **Telepath** | 14,000 | – | 85" in page, "train_target was not measured"
    assert "| PADA | 15,000 | – |" in page
    assert "| GAIfO | 14,000 | 6.0 |" in page
    assert "*is* the target" in page
    for agent in comparison["agent"]:
        assert what_it_sees(agent, params) in page
    read = pd.read_csv(tmp_path / "rivals.csv")
    pd.testing.assert_frame_equal(read, comparison)
    first = page
    write_comparison(comparison, params, tmp_path)
    assert (tmp_path / "rivals.md").read_text() == first


def test_the_page_says_whose_simulator_diverged(comparison: pd.DataFrame, params: Params, tmp_path: Path) -> None:
    write_comparison(comparison, params, tmp_path)
    assert "diverged" not in (tmp_path / "rivals.md").read_text()
    judged = returns(np.random.default_rng(0), {"bco": 300, "random": 40})
    judged.loc[judged["agent"] == "bco", "divergences"] = 1
    write_comparison(compare([judged], {"bco": Effort(15030, 4)}, {}, params), params, tmp_path)
    assert "The simulator diverged: BCO 24 times. " in (tmp_path / "rivals.md").read_text()


def test_a_learnt_source_needs_no_simulator(params: Params) -> None:
    learned = params.rivals.pada.model_copy(update={"source": "learned"})
    changed = params.model_copy(update={"rivals": params.rivals.model_copy(update={"pada": learned})})
    assert "simulator" in what_it_sees("pada", params)
    assert "simulator" not in what_it_sees("pada", changed)
    assert "transitions" in what_it_sees("pada", changed)


def test_the_report_knows_every_rival_and_what_it_sees(params: Params) -> None:
    assert list(RIVALS) == list(type(params.rivals).model_fields)
    assert all(what_it_sees(name, params) for name in RIVALS)
    assert what_it_sees("dtw", params) == what_it_sees("telepath", params)
    assert set(RIVALS) < set(STAGES)


def test_only_a_gap_of_rates_alone_makes_the_source_s_simulator_the_target(
    comparison: pd.DataFrame, params: Params, tmp_path: Path
) -> None:
    heavier = params.model_copy(update={"gap": params.gap.model_copy(update={"mass": 1.5})})
    write_comparison(comparison, heavier, tmp_path)
    assert "*is* the target" not in (tmp_path / "rivals.md").read_text()
