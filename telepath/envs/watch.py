"""Looking at an environment between its steps: at every frame of the simulator, however many a step has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from telepath.envs.suite import Environment


@contextmanager
def watched(environment: Environment, see: Callable[[float], None]) -> Iterator[None]:
    """In this context ``see`` is called after every frame, with the reward of that frame.

    ValueError for an environment that withholds its reward: nobody may see it there.
    """
    if not environment.rewarded:
        raise ValueError("only an environment that gives its reward can be watched")
    task = environment.simulator.task
    pay = task.get_reward

    def get_reward(physics: Any) -> float:
        reward = float(pay(physics))
        see(reward)
        return reward

    # The reward is the last thing of a frame that is asked for, and asked for once.
    task.get_reward = get_reward
    try:
        yield
    finally:
        del task.get_reward
