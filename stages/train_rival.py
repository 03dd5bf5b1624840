"""A rival, named by the argument, adapted to the target without its reward: with Telepath's number of target steps."""

from stages.artefacts import SOURCE_AGENT, SOURCE_EPISODES, rival_files
from stages.harness import Context, run
from telepath.alignment.rates import Rates
from telepath.baselines.catalogue import make_rival, save_policy
from telepath.baselines.rival import Allowed, adapt, episode_budget
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.gaps import target_environment
from telepath.envs.suite import Environment
from telepath.episodes import load_episodes
from telepath.files import write_atomically
from telepath.runtime.progress import Progress


def main(params: Params, context: Context) -> None:
    """Adapt and save."""
    name, task, seed = context.stage.item, params.tasks[params.task], params.seed.target
    target = target_environment(params.task, params.gap, seed, rewarded=False)
    allowed = Allowed(
        agent=Agent.load(SOURCE_AGENT, params.task),
        simulator=Environment(params.task, params.gap.action_repeat, seed, rewarded=False),
        episodes=load_episodes(SOURCE_EPISODES, rewarded=True, dims=(target.observation_dim, target.action_dim)),
        target=target,
        rates=Rates(task.action_repeat, params.gap.action_repeat, target.frame_seconds),
        steps=task.explore_steps + task.refine_steps,
        seed=seed,
    )
    rival = make_rival(allowed, getattr(params.rivals, name))
    total = episode_budget(target, allowed.steps) * target.episode_steps
    with Progress(f"train_rival {name}", total, "steps") as progress, context.scratch() as scratch:
        curve = adapt(rival, target, allowed.steps, progress, scratch)
    policy_file, curve_file, _ = rival_files(name)
    save_policy(policy_file, name, params.task, rival.artefact())
    write_atomically(curve_file, curve.to_csv(index=False))


if __name__ == "__main__":
    run(main)
