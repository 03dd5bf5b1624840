"""Mistakes found before any long work: does the task exist, does the gap apply, do the lengths fit, and the memory,
and can frames be rendered where they are wanted?

Its output never changes, so dvc runs this stage when a setting changes and then finds the source stages, which wait for
it, up to date.
"""

import sys

from stages.artefacts import CHECKED
from stages.harness import Context, run
from telepath.alignment.rates import Rates
from telepath.config import Params
from telepath.envs.gaps import rate_ratio, target_environment
from telepath.envs.suite import Environment
from telepath.errors import UserError
from telepath.files import write_atomically
from telepath.runtime.memory import demand_memory
from telepath.transfer.budget import episodes_per_round
from telepath.transfer.memory import LIBRARIES, memory_needs


def main(params: Params, context: Context) -> None:
    """Build both environments and check every length against their episodes."""
    task, name = params.tasks[params.task], f"tasks.{params.task}"
    source = Environment(params.task, task.action_repeat, 0, observation=params.observation)
    ratio = rate_ratio(task.action_repeat, params.gap.action_repeat)
    target = target_environment(params.task, params.gap, 0, rewarded=False, observation=params.observation)
    source.reset()  # where frames are observed this needs OpenGL, and says so now
    shortest = min(source.episode_steps, target.episode_steps)
    label, match = params.label, params.label.match
    rates = Rates(task.action_repeat, params.gap.action_repeat, source.frame_seconds)
    needs = {
        "gap.action_delay": (params.gap.action_delay, target.episode_steps),
        "gap.observation_delay": (params.gap.observation_delay, target.episode_steps),
        "dreamer.length": (params.dreamer.length, shortest),
        "belief.length": (params.belief.length, target.episode_steps),
        "label.prefix + label.reference": (label.prefix + label.reference, source.episode_steps),
        # A target trajectory is re-enacted too, to know what cannot be helped.
        "label.prefix + label.reference x (1 + label.slack)": (
            rates.target_steps(label.prefix - 1)
            + max(rates.target_steps(label.reference), rates.target_steps(label.reference, label.slack)),
            target.episode_steps,
        ),
        "label.match.window": (match.window, min(target.episode_steps, source.episode_steps * ratio / 2)),
        "label.match.window x (1 + label.match.slack)": (
            max(3, rates.source_steps(match.window, match.slack)),
            source.episode_steps - 1,
        ),
    }
    if params.observation == "state":  # PADA knows no other
        whole = (task.explore_steps + task.refine_steps) // target.episode_steps * target.episode_steps
        needs["rivals.pada.first_steps"] = params.rivals.pada.first_steps, whole - 1
    for key, (records, most) in needs.items():
        if records > most:
            raise UserError(f"params.yaml: {key}: {records} steps, but episodes allow {most:g} at most; choose fewer")
    if params.evaluate.heldout_episodes > params.evaluate.episodes:
        raise UserError(
            f"params.yaml: evaluate.heldout_episodes: {params.evaluate.heldout_episodes}, but no more than "
            f"{params.evaluate.episodes} evaluate.episodes are judged; choose fewer"
        )
    if episodes_per_round(task.refine_steps, target.episode_steps, params.target) < 1:
        finals = params.target.finalists * params.target.final_episodes
        least = (params.target.rounds + finals) * target.episode_steps
        raise UserError(
            f"params.yaml: {name}.refine_steps: {task.refine_steps} steps are too few for target.rounds, finalists and "
            f"final_episodes; give at least {least} or ask for fewer of them"
        )
    away = round(params.oracle.step_multiple * (task.explore_steps + task.refine_steps))
    for key, environment, steps, judgement in (
        (f"{name}.source_steps", source, task.source_steps, params.source.training),
        ("oracle.step_multiple", target, away, params.oracle),
    ):
        judged = judgement.finalists * judgement.final_episodes
        least = (params.source.seed_episodes + judged) * environment.episode_steps
        if steps < least:
            raise UserError(
                f"params.yaml: {key}: too few for {params.source.seed_episodes} source.seed_episodes and "
                f"{judged} episodes of finalists: {steps} steps, at least {least} are needed"
            )
    records = 1 + max(source.episode_steps, target.episode_steps)
    told = demand_memory(memory_needs(params, source.observation, source.action_dim, rates, records), LIBRARIES)
    print(f"telepath: check: {told}", file=sys.stderr, flush=True)
    write_atomically(CHECKED, "The settings of this run passed `python -m stages.check`.\n")


if __name__ == "__main__":
    run(main)
