"""Telepath's own target agent and refinement, on the labels of another measure, named by the argument.

Everything but the labels is the same: the exploration, the agent that begins, the budget, the rounds, the judgement.
Re-enactments in imagination and the source's rewarded frames, for which the rivals have no counterpart, weigh nothing.
"""

import sys

import pandas as pd

from stages.artefacts import rival_files
from stages.harness import Context, run
from stages.train_target import prepare
from telepath.alignment.labeller import Labeller
from telepath.alignment.matching import SourcePool
from telepath.alignment.rates import Rates
from telepath.alignment.segments import Scale
from telepath.baselines.catalogue import make_labeller
from telepath.baselines.likeness import LikenessLabels
from telepath.baselines.rival import save_policy
from telepath.config import Params
from telepath.episodes import Episode
from telepath.files import write_atomically
from telepath.rival_settings import MatchingSettings
from telepath.transfer.target import Refinement


def main(params: Params, context: Context) -> None:
    """Label, refine, choose and save."""
    name = context.stage.item
    settings = getattr(params.rivals, name)

    def labeller(source: list[Episode], exploration: list[Episode], scale: Scale, rates: Rates) -> Labeller:
        if isinstance(settings, MatchingSettings):
            return SourcePool(source, scale, rates, params.label.match)
        made = make_labeller(settings, source, exploration, scale, rates, params.seed.target)
        if isinstance(made, LikenessLabels) and made.blind:
            what = "finds the source's worst episodes as good as its best; its labels are all alike"
            print(f"telepath: {context.stage.name}: {name} {what}", file=sys.stderr, flush=True)
        return made

    refinement = prepare(params, labeller, params.target.model_copy(update={"imagined_weight": 0.0, "realign": 0}))
    total = refinement.update_budget
    with context.progress(total, "updates") as progress, context.scratch() as scratch:
        refinement.run(progress, scratch)
    context.tell_divergences(refinement.target_divergences)
    policy_file, curve_file, _ = rival_files(name)
    save_policy(policy_file, name, params.task, {"agent": refinement.agent.artefact()})
    write_atomically(curve_file, curve(refinement).to_csv(index=False))


def curve(refinement: Refinement) -> pd.DataFrame:
    """The diary, and as its last row the shipped round again, with the counts after the final judgement."""
    diary = refinement.diary()
    shipped = diary[diary["shipped"] == 1]
    counts = {"steps": refinement.target_steps, "divergences": refinement.target_divergences}
    return pd.concat([diary, shipped.assign(**counts)])


if __name__ == "__main__":
    run(main)
