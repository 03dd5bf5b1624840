"""An update can be recorded as a graph: held on the CPU, where a ``Tape`` stands for the GPU."""

from typing import Any

import numpy as np
import pytest
import torch

from telepath.dreamer.agent import Agent
from telepath.dreamer.learner import INSPECTED_EVERY, optimizer_of, resume
from telepath.dreamer.replay import Mirror, Replay
from telepath.dreamer.training import OnlineTraining
from telepath.envs.rollout import seed_episodes
from telepath.errors import Fault
from telepath.runtime.device import continue_from
from telepath.runtime.graphs import PRACTICE
from telepath.settings import DreamerSettings, OnlineSettings
from telepath.transfer.explore import Exploration
from tests.conftest import PointEnvironment
from tests.tape import TapeRecorder, doubled, updated

pytestmark = pytest.mark.usefixtures("taped")


def online(small: DreamerSettings) -> OnlineTraining:
    environment: Any = PointEnvironment()
    settings = OnlineSettings(first_updates=10, update_ratio=0.1, finalists=1, final_episodes=1)
    episodes = seed_episodes(environment, 3, 0)
    return doubled(OnlineTraining("point", environment, episodes, small, settings, steps=400, seed=0, horizon=3))


def exploring(small: DreamerSettings, tiny: Any) -> Exploration:
    torch.manual_seed(0)
    environment: Any = PointEnvironment()
    agent = Agent("point", 2, 1, small)
    exploration = Exploration(environment, agent, None, 1.0, 200, 3, tiny.explore, 0)
    for _ in range(3):
        exploration.collect("random")
    return doubled(exploration)


@pytest.mark.parametrize("kind", ["paid", "exploring"])
def test_recorded_updates_are_the_same_updates(small: DreamerSettings, params: Any, kind: str) -> None:
    def training() -> Any:
        return online(small) if kind == "paid" else exploring(small, params)

    recorder, times = TapeRecorder(), PRACTICE + 9
    plain, recorded = training(), training()
    said = updated(plain, times, None)
    assert updated(recorded, times, recorder) == said
    assert recorder.plays == times - 1 - PRACTICE, "the first update has no behavior yet"
    assert len({figures["model"] for figures in said}) == times, "they do not stand still"
    before, after = plain.agent.state_dict(), recorded.agent.state_dict()
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert plain.learner.behavior.generator.get_state().equal(recorded.learner.behavior.generator.get_state())


def test_what_a_recorded_update_spoils_is_found_before_it_is_kept(small: DreamerSettings) -> None:
    training = online(small)
    updated(training, PRACTICE + 5, TapeRecorder())
    training.learner.state()
    with torch.no_grad():
        training.agent.model.cell_input.weight[1, 2] = torch.nan
    training.update()
    with pytest.raises(Fault, match=r"world model: .*weight\[0, 0\].* TELEPATH_DEVICE=cpu"):
        training.learner.state()
    while training.learner.recorded.calls < INSPECTED_EVERY - 1:
        training.update()
    with pytest.raises(Fault, match="world model"):
        training.update()


def test_a_mirror_cuts_the_windows_that_the_host_cuts(small: DreamerSettings) -> None:
    environment: Any = PointEnvironment()
    episodes = seed_episodes(environment, 5, 0)
    host, mirrored = Replay(episodes[:2]), Replay(episodes[:2])
    mirrored.mirror = Mirror(torch.device("cpu"))
    for episode in mirrored.episodes:
        mirrored.mirror.add(episode)
    for replay in (host, mirrored):
        for episode in episodes[2:]:
            replay.add(episode)
    one, other = (replay.sample(6, small.length, np.random.default_rng(3)) for replay in (host, mirrored))
    torch.testing.assert_close(one[:5], other[:5], rtol=0, atol=0)


def test_an_optimiser_goes_on_as_its_own_device_needs_it_whatever_device_it_stood_on() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = optimizer_of({"weight": weight}, 0.1)
    weight.grad = torch.ones(1)
    optimizer.step()
    state = optimizer.state_dict()
    state["param_groups"][0]["capturable"] = True  # as on a GPU
    resume(optimizer, state)
    assert not optimizer.param_groups[0]["capturable"]
    assert optimizer.state[weight]["step"] == 1


def test_random_numbers_go_on_where_they_were_or_with_a_seed_made_of_another_device_s() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    continue_from(generators[1], generators[0].get_state())
    assert torch.rand(3, generator=generators[0]).equal(torch.rand(3, generator=generators[1]))
    for state in (torch.arange(16, dtype=torch.uint8), torch.ones(16, dtype=torch.uint8)):
        drawn = []
        for generator in generators[:2]:
            continue_from(generator, state)
            drawn.append(torch.rand(3, generator=generator))
        assert drawn[0].equal(drawn[1])
        assert not drawn[0].equal(torch.rand(3, generator=generators[2]))
