"""What the target agent begins with: nothing, or the source agent's world model and behavior.

Of these it is the world model that the refinement builds on. The behavior proposes actions to the first re-enactments.
"""

import torch

from telepath.dreamer.agent import Agent
from telepath.envs.suite import Environment
from telepath.errors import UserError
from telepath.settings import DreamerSettings


def target_agent(
    task: str, environment: Environment, settings: DreamerSettings, source: Agent | None, seed: int
) -> Agent:
    """A fresh agent for the target (*trajectories only*), or a copy of the source's (*with source agent*)."""
    torch.manual_seed(seed)
    agent = Agent(task, environment.observation, environment.action_dim, settings)
    if source is not None:
        if source.settings != settings:
            raise UserError("the source agent was trained with other `dreamer` settings; run `dvc repro` to retrain it")
        agent.load_state_dict(source.state_dict())
        agent.behavior.settle()
    return agent
