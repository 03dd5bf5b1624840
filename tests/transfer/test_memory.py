"""What settings need of memory: never less than is taken, and what no machine has is refused before any work."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from stages import check
from stages.harness import Context, Stage, read_stage, scoped
from telepath.alignment.belief import BeliefNet
from telepath.alignment.rates import Rates
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import RewardHead
from telepath.envs.gaps import target_environment
from telepath.errors import UserError
from telepath.observations import PIXELS, Observation
from telepath.runtime.memory import GIB, demand_memory
from telepath.transfer.memory import FLOAT, LIBRARIES, TRAINED, memory_needs, networks
from telepath.transfer.novelty import Disagreement

D, A = 17, 6
ROOT = Path(__file__).resolve().parent.parent.parent


def changed(params: Params, key: str, value: Any) -> Params:
    """The settings with one dotted key at another value."""
    content = params.model_dump()
    *parents, leaf = key.split(".")
    node = content
    for parent in parents:
        node = node[parent]
    node[leaf] = value
    return Params.model_validate(content)


def bytes_of(*modules: nn.Module) -> int:
    return FLOAT * sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize("hidden", [16, 128, 512])
def test_the_networks_are_no_larger_than_is_said(params: Params, hidden: int) -> None:
    params = changed(changed(params, "dreamer.hidden", hidden), "belief.hidden", hidden)
    agent = Agent("any", D, A, params.dreamer)
    feature = agent.model.feature_dim
    ensembles = Disagreement(agent.model, params.dreamer, params.explore.members)
    rewards = RewardHead(feature, params.dreamer)
    belief = BeliefNet(D, feature, params.belief)
    held = TRAINED * bytes_of(agent, ensembles, rewards, belief) + params.target.rounds * bytes_of(agent)
    told = sum(networks(params, D, A).values())
    assert held <= told <= 8 * held


@pytest.mark.parametrize("depth", [1, 8, 200])
def test_the_convolutions_are_no_larger_than_is_said(params: Params, depth: int) -> None:
    params = changed(params, "dreamer.cnn_depth", depth)
    model = Agent("any", Observation("pixels", 0), A, params.dreamer).model
    told = memory_needs(params, Observation("pixels", 0), A, Rates(6, 3, 0.02), 335)["target"]
    weights = bytes_of(model.encoder, model.decoder)
    assert TRAINED * weights <= told["dreamer.cnn_depth"] <= 8 * TRAINED * weights
    assert params.target.rounds * weights <= 1.1 * told["target.rounds x dreamer.cnn_depth"]
    maps = []
    for module in (*model.encoder.modules(), *model.decoder.modules()):
        if not list(module.children()):
            module.register_forward_hook(lambda module, seen, made: maps.append(FLOAT * made.numel()))
    model.decoder(torch.zeros(1, model.feature_dim))
    model.encoder(torch.zeros(1, PIXELS))
    frames = params.dreamer.batch * params.dreamer.length
    assert frames * sum(maps) < told["dreamer.cnn_depth x batch x length"] + told["frames of dreamer.batch x length"]


def test_the_defaults_fit_into_two_gib(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEPATH_MEMORY_GIB", "2")
    for task in params.tasks:
        needs = memory_needs(params.model_copy(update={"task": task}), D, A, Rates(6, 3, 0.02), 335)
        assert demand_memory(needs, LIBRARIES).startswith("memory in GiB, at most: source")


def test_frames_are_counted_as_they_are_kept(params: Params) -> None:
    needs = memory_needs(params, Observation("pixels", 0), A, Rates(6, 3, 0.02), 335)
    replayed = needs["source"][f"tasks.{params.task}.source_steps"]
    assert replayed >= params.tasks[params.task].source_steps * PIXELS
    # Every verdict is kept, and so is what the last one was made of while it is written down.
    seen = 335 * PIXELS * (6 * params.evaluate.episodes + params.target.rounds * params.evaluate.curve_episodes)
    assert sum(needs["evaluation"].values()) > seen
    held = FLOAT * PIXELS * params.dreamer.batch * params.dreamer.length
    for part, shares in needs.items():
        assert held < sum(shares.values()) < 4 * GIB, part


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tasks.ball_in_cup-catch.source_steps", 10**9),
        ("tasks.ball_in_cup-catch.explore_steps", 10**9),
        ("tasks.ball_in_cup-catch.refine_steps", 10**9),
        ("oracle.step_multiple", 1e5),
        ("dreamer.deter", 10**4),
        ("dreamer.hidden", 10**4),
        ("dreamer.batch", 10**4),
        ("dreamer.imagined", 10**8),
        ("tasks.ball_in_cup-catch.horizon", 10**8),
        ("belief.subsets", 10**8),
        ("belief.frames", 10**8),
        ("label.chunk", 10**8),
        ("label.segments", 10**9),
        ("label.null_segments", 10**9),
        ("label.initial_latents", 10**6),
        ("label.cem.population", 10**7),
        ("target.rounds", 10**6),
        ("target.imagined_batch", 10**8),
        ("target.frames", 10**8),
        ("evaluate.episodes", 10**4),
        ("rivals.pada.hidden", 10**4),
    ],
)
def test_what_no_machine_has_is_refused(params: Params, key: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEPATH_MEMORY_GIB", "4")
    params = changed(params, key, value)
    with pytest.raises(UserError) as raised:
        demand_memory(memory_needs(params, D, A, Rates(6, 3, 0.02), 335), LIBRARIES)
    named, _, rest = str(raised.value).removeprefix("params.yaml: ").partition(": ")
    assert key.rpartition(".")[2] in re.split(r"\W+", named)
    assert "GiB of memory and there are 4.0; lower it, or set TELEPATH_MEMORY_GIB" in rest


@pytest.mark.parametrize("depth", [1000, 10**4])
def test_wide_convolutions_are_refused(params: Params, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEPATH_MEMORY_GIB", "4")
    params = changed(params, "dreamer.cnn_depth", depth)
    with pytest.raises(UserError, match=r"params\.yaml: [a-z. ]*dreamer\.cnn_depth"):
        demand_memory(memory_needs(params, Observation("pixels", 0), A, Rates(6, 3, 0.02), 335), LIBRARIES)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("gap.action_delay", 1000, "gap.action_delay: 1000 steps, but episodes allow 334"),
        ("gap.observation_delay", 1000, "gap.observation_delay: 1000 steps, but episodes allow 334"),
        ("label.slack", 50.0, "label.prefix + label.reference x (1 + label.slack): "),
        ("label.match.slack", 50.0, "label.match.window x (1 + label.match.slack): "),
        ("oracle.step_multiple", 1e6, "oracle.step_multiple: oracle would need"),
        ("evaluate.heldout_episodes", 21, "evaluate.heldout_episodes: 21, but no more than 20 evaluate.episodes"),
        ("rivals.pada.first_steps", 14696, "rivals.pada.first_steps: 14696 steps, but episodes allow 14695"),
    ],
)
def test_lengths_beyond_an_episode_are_refused(
    params: Params, key: str, value: Any, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    params = changed(params, key, value)
    with pytest.raises(UserError) as raised:
        check.main(params, Context(Stage("check", "", (), (), ()), ""))
    assert str(raised.value).startswith(f"params.yaml: {named}")


def test_the_check_tells_it_and_leaves_nothing_when_it_refuses(
    params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = Context(read_stage("check", params), "")
    params = scoped(params, context)  # nothing that is not declared may be read
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TELEPATH_MEMORY_GIB", "1")
    with pytest.raises(UserError, match=r"evaluate\.episodes: evaluation would need 1\.4 GiB .* there are 1\.0"):
        check.main(params, context)
    assert not (tmp_path / "data").exists()
    monkeypatch.setenv("TELEPATH_MEMORY_GIB", "2")
    check.main(params, context)
    assert "telepath: check: memory in GiB, at most: source 0." in capsys.readouterr().err
    assert (tmp_path / "data" / "checked.txt").exists()


def test_no_stage_of_the_last_run_took_more_than_is_said(params: Params) -> None:
    names = {
        "source": "train_source",
        "target": "train_target",
        "oracle": "train_oracle",
        "labelling": "label",
        "PADA": "train_pada",
    }
    taken = pd.read_csv(ROOT / "costs.csv").set_index("stage")["mebibytes"] * 2**20
    environment = target_environment(params.task, params.gap, 0, rewarded=False)
    rates = Rates(params.tasks[params.task].action_repeat, params.gap.action_repeat, environment.frame_seconds)
    needs = memory_needs(params, environment.observation, environment.action_dim, rates, 335)
    for part, stage in names.items():
        assert taken[stage] <= LIBRARIES + sum(needs[part].values()), stage


def test_more_of_anything_needs_no_less(params: Params) -> None:
    few = memory_needs(params, D, A, Rates(6, 3, 0.02), 335)["labelling"]
    many = memory_needs(changed(params, "label.segments", 4096), D, A, Rates(6, 3, 0.02), 335)["labelling"]
    assert 0 < sum(many.values()) - sum(few.values()) < GIB / 4
