"""The oracle: the same Dreamer trained in the target *with* its reward, at Telepath's number of target steps and of
updates a step.
"""

from stages.artefacts import ORACLE_AGENT, ORACLE_CURVE
from stages.harness import Context, run
from telepath.config import Params
from telepath.dreamer.training import OnlineTraining, save_curve
from telepath.envs.gaps import rate_ratio, target_environment
from telepath.envs.rollout import seed_episodes


def main(params: Params, context: Context) -> None:
    """Train and save."""
    task, seed = params.tasks[params.task], params.seed.target
    environment = target_environment(params.task, params.gap, seed, rewarded=True, observation=params.observation)
    training = OnlineTraining(
        params.task,
        environment,
        seed_episodes(environment, params.source.seed_episodes, seed),
        params.dreamer,
        params.oracle.training(task.refine_ratio),
        steps=round(params.oracle.step_multiple * (task.explore_steps + task.refine_steps)),
        seed=seed,
        horizon=task.horizon,
        rate_ratio=rate_ratio(task.action_repeat, params.gap.action_repeat),
    )
    with context.progress(training.update_budget, "updates") as progress, context.scratch() as scratch:
        trained = training.run(progress, scratch)
    context.tell_divergences(training.divergences)
    trained.agent.save(ORACLE_AGENT)
    save_curve(ORACLE_CURVE, trained.curve)


if __name__ == "__main__":
    run(main)
