"""The README's recipe for a robot of one's own: a model and a task as dm_control has them, and one line in ``load``."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from dm_control.rl import control
from dm_control.suite import base

from telepath.envs import gaps, suite
from telepath.envs.backend import Physics
from telepath.envs.pose import PoseFinder
from telepath.settings import GapSettings

MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <camera name="side" pos="0 -3 1" xyaxes="1 0 0 0 0 1"/>
    <body pos="0 0 1">
      <joint name="hinge" type="hinge" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.04" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" ctrlrange="-1 1" gear="2"/></actuator>
</mujoco>
"""


class Raise(base.Task):
    """Paid for an arm that points up."""

    def initialize_episode(self, physics: Any) -> None:
        physics.data.qpos[:] = self.random.uniform(-0.1, 0.1)
        super().initialize_episode(physics)

    def get_observation(self, physics: Any) -> "OrderedDict[str, np.ndarray]":
        angle = physics.data.qpos
        return OrderedDict(
            orientation=np.concatenate([np.cos(angle), np.sin(angle)]), velocity=physics.data.qvel.copy()
        )

    def get_reward(self, physics: Any) -> float:
        return float(0.5 - 0.5 * np.cos(physics.data.qpos[0]))


def my_robot(task: str) -> control.Environment:
    return control.Environment(
        Physics.from_xml_string(MODEL, {}), Raise(random=0), time_limit=2.0, control_timestep=0.02
    )


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (suite, gaps):
        monkeypatch.setattr(module, "load", my_robot)
    monkeypatch.setattr(suite, "TASKS", (*suite.TASKS, "arm-raise"))


def test_source_target_and_poses_work() -> None:
    source = suite.Environment("arm-raise", 4, 0)
    target = gaps.target_environment("arm-raise", GapSettings(action_repeat=2, mass=2.0, gear=0.5), 0, rewarded=False)
    assert (source.observation_dim, source.action_dim) == (3, 1)
    assert source.observation_names == ("orientation[0]", "orientation[1]", "velocity[0]")
    assert target.physics.model.body_mass[1] == pytest.approx(2 * source.physics.model.body_mass[1])
    moved = []
    for environment in (source, target):
        environment.reseed(0, 0)
        environment.reset()
        for _ in range(10 * 4 // environment.action_repeat):
            seen = environment.step(np.ones(1)).observation
        moved.append(float(np.arctan2(seen[1], seen[0])))
    assert moved[0] > 2 * moved[1] > 0  # half the motor lifts twice the mass less high
    assert PoseFinder(target, np.ones(3)).fit(seen[None]).position[0, 0] == pytest.approx(moved[1], abs=1e-3)
