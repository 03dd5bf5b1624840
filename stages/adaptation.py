"""Adapting and judging a rival that plays by the episode: what PADA's stages share with those of the others."""

from collections.abc import Callable

from stages.artefacts import SOURCE_AGENT, SOURCE_EPISODES, rival_files
from stages.harness import Context
from telepath.alignment.rates import Rates
from telepath.baselines.rival import Allowed, Rival, adapt, episode_budget, save_policy
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.gaps import target_environment
from telepath.envs.rollout import Policy
from telepath.envs.suite import Environment
from telepath.episodes import load_episodes, total_divergences
from telepath.evaluation.judge import Court, returns_table
from telepath.files import write_atomically


def train(name: str, params: Params, context: Context, make: Callable[[Allowed], Rival]) -> None:
    """Adapt what ``make`` makes, without the target's reward and with Telepath's number of target steps, and save."""
    task, seed = params.tasks[params.task], params.seed.target
    target = target_environment(params.task, params.gap, seed, rewarded=False)
    dims = target.observation_dim, target.action_dim
    allowed = Allowed(
        agent=Agent.load(SOURCE_AGENT, params.task, dims=dims),
        simulator=Environment(params.task, params.gap.action_repeat, seed, rewarded=False),
        episodes=load_episodes(SOURCE_EPISODES, rewarded=True, dims=dims),
        target=target,
        rates=Rates(task.action_repeat, params.gap.action_repeat, target.frame_seconds),
        steps=task.explore_steps + task.refine_steps,
        seed=seed,
    )
    rival = make(allowed)
    total = episode_budget(target, allowed.steps) * target.episode_steps
    with context.progress(total, "steps") as progress, context.scratch() as scratch:
        curve = adapt(rival, target, allowed.steps, progress, scratch)
    context.tell_divergences(int(curve["divergences"].max()))
    policy_file, curve_file, _ = rival_files(name)
    save_policy(policy_file, name, params.task, rival.artefact())
    write_atomically(curve_file, curve.to_csv(index=False))


def leave_out(name: str, params: Params) -> None:
    """The artefacts of a rival that does not apply: they hold nothing."""
    policy_file, curve_file, _ = rival_files(name)
    save_policy(policy_file, name, params.task, {})
    write_atomically(curve_file, "steps,divergences\n")


def evaluate(name: str, params: Params, context: Context, load: Callable[[tuple[int, int]], Policy]) -> None:
    """The true return of a policy, on the same fresh episodes as everyone's, saved.

    ``load`` reads it, given D and A of what it is to act in.
    """
    seed = params.seed.evaluate
    away = [target_environment(params.task, params.gap, seed, rewarded=True) for _ in range(params.evaluate.episodes)]
    policy = load((away[0].observation_dim, away[0].action_dim))
    _, _, returns_file = rival_files(name)
    with context.scratch() as scratch:
        judged = Court(scratch, seed).judge(away, policy)
    context.tell_divergences(total_divergences(judged))
    write_atomically(returns_file, returns_table({name: judged}).to_csv(index=False))
