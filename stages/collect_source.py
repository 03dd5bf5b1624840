"""Seed episodes in the source environment, with random actions."""

from stages.artefacts import SOURCE_SEEDS
from stages.harness import Context, run
from telepath.config import Params
from telepath.envs.rollout import seed_episodes
from telepath.envs.suite import Environment
from telepath.episodes import save_episodes


def main(params: Params, context: Context) -> None:
    """Collect and save."""
    repeat, seed = params.tasks[params.task].action_repeat, params.seed.source
    environment = Environment(params.task, repeat, seed, observation=params.observation)
    with context.progress(params.source.seed_episodes, "episodes") as progress:
        episodes = seed_episodes(environment, params.source.seed_episodes, seed, progress)
    save_episodes(SOURCE_SEEDS, episodes)


if __name__ == "__main__":
    run(main)
