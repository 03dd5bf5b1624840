"""Inferred rewards: segments re-enacted in imagination, and the exploration replay matched with the source."""

from stages.artefacts import BELIEF, EXPLORATION, EXPLORED_AGENT, LABELS, SOURCE_EPISODES
from stages.harness import Context, run
from telepath.alignment.belief import BeliefNet
from telepath.alignment.matching import SourcePool
from telepath.alignment.projection import scale_for
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Reenactor
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.suite import Environment
from telepath.episodes import load_episodes
from telepath.runtime.device import training_device
from telepath.runtime.environment import EXECUTOR
from telepath.transfer.labels import HERE, label


def main(params: Params, context: Context) -> None:
    """Align, match and save."""
    where = EXECUTOR.read(HERE)
    repeat = params.gap.action_repeat
    target = Environment(params.task, repeat, params.seed.target, rewarded=False, observation=params.observation)
    dims = target.observation, target.action_dim
    agent = Agent.load(EXPLORED_AGENT, params.task, params.observation, dims)
    source = load_episodes(SOURCE_EPISODES, rewarded=True, dims=dims)
    exploration = load_episodes(EXPLORATION, rewarded=False, dims=dims)
    device = training_device(frames=agent.model.observation.has_frames)
    belief = BeliefNet.load(BELIEF, agent.to(device).model, params.belief).to(device)
    rates = Rates(params.tasks[params.task].action_repeat, repeat, target.frame_seconds)
    scale = scale_for(agent.model.observation, source + exploration)
    reenactor = Reenactor(agent.model, belief, scale, rates, params.label)
    pool = SourcePool(source, scale, rates, params.label.match)
    actor = agent.behavior.actor if params.setting == "with source agent" else None
    total = params.label.segments + len(exploration)
    with context.progress(total, "segments and episodes") as progress, context.scratch() as scratch:
        labels = label(
            source, exploration, reenactor, pool, params.label, actor, params.seed.target, progress, scratch, where
        )
    labels.save(LABELS)


if __name__ == "__main__":
    run(main)
