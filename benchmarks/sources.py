"""Source agents as the pipeline trains them, for benchmarks that need one without its stages."""

from telepath.config import Params
from telepath.dreamer.training import OnlineTraining
from telepath.envs.rollout import seed_episodes
from telepath.envs.suite import Environment


def source_training(params: Params, task: str, seed: int) -> OnlineTraining:
    """The training that ``collect_source`` and ``train_source`` would do of a task, not begun yet."""
    environment = Environment(task, params.tasks[task].action_repeat, seed)
    return OnlineTraining(
        task,
        environment,
        seed_episodes(environment, params.source.seed_episodes, seed),
        params.dreamer,
        params.source.training,
        steps=params.tasks[task].source_steps,
        seed=seed,
        horizon=params.tasks[task].horizon,
    )
