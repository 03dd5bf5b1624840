"""Pictures, where this machine can make any; and looking at every frame, which needs none."""

import numpy as np
import pytest

from telepath.envs.backend import Physics
from telepath.envs.gaps import target_environment
from telepath.envs.render import Camera
from telepath.envs.suite import Environment
from telepath.envs.watch import watched
from telepath.settings import GapSettings


@pytest.mark.usefixtures("graphics")
class TestCamera:
    @pytest.mark.parametrize("task", ["ball_in_cup-catch", "walker-walk", "cheetah-run", "humanoid-stand"])
    def test_there_is_something_to_see(self, task: str) -> None:
        environment = Environment(task, 1, 0)
        environment.reset()
        with Camera(environment.physics, 48, 64) as camera:
            frame = camera.frame()
        assert frame.shape == (48, 64, 3)
        assert frame.dtype == np.uint8
        assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 50

    def test_up_is_up_and_right_is_right(self) -> None:
        """A model without a camera, too: a red ball up on the right, as the free camera looks."""
        balls = "".join(
            f'<geom size=".3" pos="0 {y} {z}" rgba="{red} {1 - red} 0 1"/>'
            for y, z, red in ((1, 1, 1), (1, -1, 0), (-1, 1, 0), (-1, -1, 0))
        )
        xml = f'<mujoco><visual><global azimuth="180" elevation="0"/></visual><worldbody>{balls}</worldbody></mujoco>'
        with Camera(Physics.from_xml_string(xml), 64, 64) as camera:
            frame = camera.frame().astype(int)
        row, column = np.nonzero(frame[..., 0] > frame[..., 1] + 30)
        assert len(row) > 20
        assert row.max() < 32 <= column.min()

    def test_pictures_repeat_and_follow_the_motion(self) -> None:
        environment = Environment("ball_in_cup-catch", 1, 0)
        environment.reset()
        with Camera(environment.physics, 64, 64) as camera:
            before, again = camera.frame(), camera.frame()
            for _ in range(20):
                environment.step(np.ones(2))
            after = camera.frame()
        np.testing.assert_array_equal(before, again)
        assert (before != after).any()

    def test_two_cameras_do_not_see_each_other_s_scene(self) -> None:
        cup, walker = (Environment(task, 1, 0) for task in ("ball_in_cup-catch", "walker-walk"))
        cup.reset()
        walker.reset()
        with Camera(cup.physics, 32, 32) as one, Camera(walker.physics, 64, 64) as two:
            alone = one.frame()
            two.frame()
            np.testing.assert_array_equal(one.frame(), alone)

    def test_nothing_that_moves_is_changed(self) -> None:
        seen, unseen = (Environment("walker-walk", 2, 0) for _ in range(2))
        actions = np.random.default_rng(0).uniform(-1, 1, (20, 6))
        seen.reset()
        unseen.reset()
        with Camera(seen.physics, 32, 32) as camera:
            for action in actions:
                camera.frame()
                np.testing.assert_array_equal(seen.step(action).observation, unseen.step(action).observation)


@pytest.mark.parametrize("repeat", [1, 3, 4])
def test_every_frame_is_seen_once_with_its_reward(repeat: int) -> None:
    """At any control rate, the last step included, which the clock may cut short."""
    environment = target_environment("walker-walk", GapSettings(action_repeat=repeat), 0, rewarded=True)
    environment.reset()
    rewards: list[float] = []
    paid = []
    with watched(environment, rewards.append):
        for step in range(5):
            paid.append(environment.step(np.zeros(6)).reward)
            assert len(rewards) == repeat * (step + 1)
    assert sum(rewards) == pytest.approx(sum(paid), abs=1e-12)
    environment.step(np.zeros(6))
    assert len(rewards) == 5 * repeat


def test_a_withheld_reward_stays_withheld() -> None:
    environment = target_environment("walker-walk", GapSettings(action_repeat=3), 0, rewarded=False)
    with pytest.raises(ValueError, match="gives its reward"), watched(environment, print):
        pass
