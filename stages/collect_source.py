"""Seed episodes in the source environment, with random actions."""

from dataclasses import asdict

from stages.artefacts import SOURCE_SEEDS
from stages.harness import Context, run
from telepath.config import Params
from telepath.envs.rollout import seed_episode
from telepath.envs.suite import Environment
from telepath.episodes import Episode, save_episodes, total_divergences


def main(params: Params, context: Context) -> None:
    """Collect and save."""
    repeat, seed = params.tasks[params.task].action_repeat, params.seed.source
    environment = Environment(params.task, repeat, seed, observation=params.observation)
    numbers = range(params.source.seed_episodes)
    with context.progress(len(numbers), "episodes") as progress, context.scratch() as scratch:
        done = scratch.load_parts()
        progress.advance(len(done))
        for number in sorted(set(numbers) - done.keys()):
            done[number] = asdict(seed_episode(environment, seed, number))
            scratch.save_part(number, done[number])
            progress.advance(1)
    episodes = [Episode(**done[number]) for number in numbers]
    context.tell_divergences(total_divergences(episodes))
    save_episodes(SOURCE_SEEDS, episodes)


if __name__ == "__main__":
    run(main)
