"""The prior-belief network: target observations, without actions, to latents of the target's world model."""

from stages.artefacts import BELIEF, EXPLORATION, EXPLORED_AGENT
from stages.harness import Context, run
from telepath.alignment.belief import BeliefTraining
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.dreamer.replay import Replay
from telepath.envs.suite import Environment
from telepath.episodes import load_episodes
from telepath.runtime.device import training_device
from telepath.runtime.store import save_state


def main(params: Params, context: Context) -> None:
    """Train and save."""
    repeat = params.gap.action_repeat
    target = Environment(params.task, repeat, params.seed.target, rewarded=False, observation=params.observation)
    dims = target.observation, target.action_dim
    device = training_device(frames=target.observation.has_frames)
    model = Agent.load(EXPLORED_AGENT, params.task, params.observation, dims).to(device).model
    training = BeliefTraining(
        model,
        Replay(load_episodes(EXPLORATION, rewarded=False, dims=dims), device=device),
        target.step_seconds,
        params.belief,
        params.seed.target,
    )
    with context.progress(params.belief.updates, "updates") as progress, context.scratch() as scratch:
        training.run(progress, scratch)
    save_state(BELIEF, {"weights": dict(training.net.state_dict())}, kind="belief")


if __name__ == "__main__":
    run(main)
