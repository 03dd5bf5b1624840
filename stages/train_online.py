"""A rival that is a Dreamer in another source, named by the argument: corrected for the target, or randomised."""

import pandas as pd

from stages.artefacts import rival_files
from stages.harness import Context, run
from telepath.baselines.darc import Darc
from telepath.baselines.randomised import RandomisedSource
from telepath.baselines.rival import save_policy
from telepath.config import Params
from telepath.dreamer.training import OnlineTraining
from telepath.envs.gaps import rate_ratio, target_environment
from telepath.envs.rollout import seed_episodes
from telepath.envs.suite import Environment
from telepath.files import write_atomically
from telepath.rival_settings import RandomisedSettings


def main(params: Params, context: Context) -> None:
    """Train and save."""
    name = context.stage.item
    training = prepare(params, name)
    total = training.update_budget
    with context.progress(total, "updates") as progress, context.scratch() as scratch:
        trained = training.run(progress, scratch)
    context.tell_divergences(training.divergences)
    policy_file, curve_file, _ = rival_files(name)
    save_policy(policy_file, name, params.task, {"agent": trained.agent.artefact()})
    # Steps are the target's, as in every rival's curve.
    curve = pd.DataFrame(trained.curve, columns=["source_steps", "updates", "source_return", "divergences"])
    curve["steps"] = training.target_steps if isinstance(training, Darc) else 0
    write_atomically(curve_file, curve.to_csv(index=False))


def prepare(params: Params, name: str) -> OnlineTraining:
    """The training, for as long in seconds and in updates as the source agent's, at the target's control rate."""
    task, seed, settings = params.tasks[params.task], params.seed.target, getattr(params.rivals, name)
    repeat, ratio = params.gap.action_repeat, rate_ratio(task.action_repeat, params.gap.action_repeat)
    online = params.source.training
    online = online.model_copy(update={"update_ratio": online.update_ratio / ratio})
    steps, seeds = round(ratio * task.source_steps), params.source.seed_episodes
    if isinstance(settings, RandomisedSettings):
        source = RandomisedSource(params.task, repeat, settings, seed)
        episodes = seed_episodes(source, seeds, seed)
        return OnlineTraining(
            params.task,
            source,
            episodes,
            params.dreamer,
            online,
            steps=steps,
            seed=seed,
            horizon=task.horizon,
            rate_ratio=ratio,
        )
    home = Environment(params.task, repeat, seed)
    return Darc(
        params.task,
        home,
        target_environment(params.task, params.gap, seed, rewarded=False),
        seed_episodes(home, seeds, seed),
        params.dreamer,
        online,
        settings,
        steps=steps,
        target_steps=task.explore_steps + task.refine_steps,
        seed=seed,
        horizon=task.horizon,
        rate_ratio=ratio,
    )


if __name__ == "__main__":
    run(main)
