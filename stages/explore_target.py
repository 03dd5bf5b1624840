"""Reward-free target data, and the first fit of the target's world model."""

from stages.artefacts import EXPLORATION, EXPLORED_AGENT, SOURCE_AGENT
from stages.harness import Context, run
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.gaps import rate_ratio, target_environment
from telepath.episodes import save_episodes, total_divergences
from telepath.runtime.device import training_device
from telepath.transfer.explore import Exploration
from telepath.transfer.warmstart import target_agent


def main(params: Params, context: Context) -> None:
    """Explore and save."""
    task, seed = params.tasks[params.task], params.seed.target
    ratio = rate_ratio(task.action_repeat, params.gap.action_repeat)
    environment = target_environment(params.task, params.gap, seed, rewarded=False, observation=params.observation)
    source = (
        Agent.load(SOURCE_AGENT, params.task, params.observation, (environment.observation, environment.action_dim))
        if params.setting == "with source agent"
        else None
    )
    device = training_device(frames=environment.observation.has_frames)
    agent = target_agent(params.task, environment, params.dreamer, source, seed).to(device)
    exploration = Exploration(environment, agent, source, ratio, task.explore_steps, task.horizon, params.explore, seed)
    with context.progress(exploration.update_budget, "updates") as progress, context.scratch() as scratch:
        episodes = exploration.run(progress, scratch)
    context.tell_divergences(total_divergences(episodes))
    agent.save(EXPLORED_AGENT)
    save_episodes(EXPLORATION, episodes)


if __name__ == "__main__":
    run(main)
