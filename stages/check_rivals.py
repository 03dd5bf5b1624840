"""Mistakes in the rivals' settings, found before any of them runs; `check` finds PADA's, which `dvc repro` runs.

Its output never changes, as that of `check`.
"""

from stages.artefacts import RIVALS
from stages.harness import Context, run
from telepath.baselines.pada import demand_steps
from telepath.baselines.randomised import random_gaps
from telepath.config import Params
from telepath.envs.gaps import target_environment
from telepath.errors import UserError
from telepath.files import write_atomically


def main(params: Params, context: Context) -> None:
    """Is the target one that rivals know, and do their lengths and quantities fit?"""
    if params.observation != "state":
        raise UserError(f"observation: {params.observation}, but the rivals know states only; set it to state")
    task, target = params.tasks[params.task], target_environment(params.task, params.gap, 0, rewarded=False)
    demand_steps(params.rivals.pada_model, target, task.explore_steps + task.refine_steps)
    random_gaps(params.task, params.gap.action_repeat, params.rivals.randomised, seed=0)
    write_atomically(RIVALS / "checked.txt", "The rivals' settings passed `python -m stages.check_rivals`.\n")


if __name__ == "__main__":
    run(main)
