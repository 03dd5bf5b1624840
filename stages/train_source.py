"""The source agent: a Dreamer on the true source reward, and the episodes that it collected on its way."""

from stages.artefacts import SOURCE_AGENT, SOURCE_CURVE, SOURCE_EPISODES, SOURCE_SEEDS
from stages.harness import Context, run
from telepath.config import Params
from telepath.dreamer.training import OnlineTraining, save_curve
from telepath.envs.suite import Environment
from telepath.episodes import load_episodes, save_episodes


def main(params: Params, context: Context) -> None:
    """Train and save."""
    task = params.tasks[params.task]
    environment = Environment(params.task, task.action_repeat, params.seed.source, observation=params.observation)
    dims = environment.observation, environment.action_dim
    training = OnlineTraining(
        params.task,
        environment,
        load_episodes(SOURCE_SEEDS, rewarded=True, dims=dims),
        params.dreamer,
        params.source.training,
        steps=task.source_steps,
        seed=params.seed.source,
        horizon=task.horizon,
    )
    with context.progress(training.update_budget, "updates") as progress, context.scratch() as scratch:
        trained = training.run(progress, scratch)
    context.tell_divergences(training.divergences)
    trained.agent.save(SOURCE_AGENT)
    save_episodes(SOURCE_EPISODES, trained.episodes)
    save_curve(SOURCE_CURVE, trained.curve)


if __name__ == "__main__":
    run(main)
