"""The target policy: trained on inferred rewards, refined round by round, chosen without the true reward."""

from collections.abc import Callable

import numpy as np

from stages.artefacts import (
    BELIEF,
    EXPLORATION,
    EXPLORED_AGENT,
    LABELS,
    SOURCE_AGENT,
    SOURCE_EPISODES,
    TARGET_AGENT,
    TARGET_POLICIES,
    TARGET_ROUNDS,
)
from stages.harness import Context, run
from telepath.alignment.belief import BeliefLearner, BeliefNet
from telepath.alignment.labeller import Labeller
from telepath.alignment.matching import SourcePool
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Reenactor
from telepath.alignment.segments import Scale, choose_frames
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.gaps import target_environment
from telepath.episodes import Episode, load_episodes
from telepath.files import write_atomically
from telepath.runtime.device import training_device
from telepath.runtime.store import save_state
from telepath.settings import TargetSettings
from telepath.transfer.knowledge import Knowledge
from telepath.transfer.labels import Labels, segments_of
from telepath.transfer.target import Refinement

LabellerOf = Callable[[list[Episode], list[Episode], Scale, Rates], Labeller]
"""Source episodes, exploration, the frame scale and the rates -> what labels the target's replay."""


def prepare(
    params: Params, labeller_of: LabellerOf | None = None, settings: TargetSettings | None = None
) -> Refinement:
    """The refinement as the artefacts and settings have it; a rival has its own labels and ``settings``."""
    task, seed = params.tasks[params.task], params.seed.target
    environment = target_environment(params.task, params.gap, seed, rewarded=False, observation=params.observation)
    dims = environment.observation, environment.action_dim
    source = load_episodes(SOURCE_EPISODES, rewarded=True, dims=dims)
    exploration = load_episodes(EXPLORATION, rewarded=False, dims=dims)
    device = training_device(frames=environment.observation.has_frames)
    agent = Agent.load(EXPLORED_AGENT, params.task, params.observation, dims).to(device)
    belief = BeliefNet.load(BELIEF, agent.model, params.belief).to(device)
    labels = Labels.load(LABELS, exploration, environment.observation)
    rates = Rates(task.action_repeat, params.gap.action_repeat, environment.frame_seconds)
    reenactor = Reenactor(agent.model, belief, labels.scale, rates, params.label)
    labels.demand(LABELS, reenactor)
    learner = BeliefLearner(belief, agent.model, params.belief, rates.target_step_seconds, np.random.default_rng(seed))
    labeller: Labeller
    if labeller_of is None:
        labeller = SourcePool(source, labels.scale, rates, params.label.match)
    else:
        labeller = labeller_of(source, exploration, labels.scale, rates)
        labels = labels._replace(replay=[labeller.label(episode) for episode in exploration])
    rng = np.random.default_rng(seed)
    known = Knowledge(
        segments_of(LABELS, labels, source, params.label, task.action_repeat),
        choose_frames(source, params.target.frames, params.label.prefix, task.action_repeat, rng),
        Agent.load(SOURCE_AGENT, params.task, params.observation, dims)
        if params.setting == "with source agent"
        else None,
    )
    return Refinement(
        environment,
        agent,
        learner,
        reenactor,
        known,
        labels,
        labeller,
        exploration,
        task.refine_steps,
        task.refine_ratio,
        task.horizon,
        settings or params.target,
        seed,
    )


def main(params: Params, context: Context) -> None:
    """Refine, choose and save."""
    refinement = prepare(params)
    with context.progress(refinement.update_budget, "updates") as progress, context.scratch() as scratch:
        refinement.run(progress, scratch)
    context.tell_divergences(refinement.target_divergences)
    refinement.agent.save(TARGET_AGENT)
    save_state(TARGET_POLICIES, refinement.policies(), kind="policies")
    write_atomically(TARGET_ROUNDS, refinement.diary().to_csv(index=False))


if __name__ == "__main__":
    run(main)
