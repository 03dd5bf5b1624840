"""What PADA could reach on the half-cheetah if it had nothing to learn: its search on the exact deviation.

    python -m benchmarks.pada_exact [--gaps "mass 1.5" ...] [--seeds 0 ...] [--episodes 5]
                                    [--out reports/benchmarks/pada]

The source agent and the gaps are those of ``benchmarks.pada``. Both simulators are reset to the target's state; the
source's says where u = pi(s) would lead, the target's where every candidate of the search does, and the nearest is
taken: argmin_a |f_target(s, a) - f_source(s, u)|. What this policy falls short of the source is the method's own, and
what the learnt one (``curves.png``) falls short of it is the network's. With twice the motors' strength besides the
mass no action is out of reach: whether the bounds are what is in the way shows there. Motor noise is left out: it is
drawn after the action, so that nothing is expected to miss less than u.

Nearness is measured twice: in units of each dimension's spread in the source, as PADA does here, and in the
observation's own units, as published. Writes exact.csv, a row a gap, seed and measure: the source's true return at
home, the shares of it that u and the exact search make in the target, the deviation of both, and how many of their
entries are at a bound. A rollout of whole populations needs the simulator's state, so this is no policy for a target.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.grid import commit
from benchmarks.pada import GAPS, TASK, command_line, judging_targets, mean_return, source_agent
from telepath.alignment.cem import search
from telepath.config import load
from telepath.dreamer.agent import Agent
from telepath.envs.backend import mujoco
from telepath.envs.rollout import Policy
from telepath.envs.suite import Environment
from telepath.episodes import Array
from telepath.files import write_atomically
from telepath.runtime.device import limit_threads
from telepath.runtime.progress import Progress
from telepath.settings import CemSettings, GapSettings

TRIED = {
    "mass 1.5": GAPS["mass 1.5"],
    "mass 1.5, gear 2": GAPS["mass 1.5"] | {"gear": 2.0},
    "gravity 0.5": GAPS["gravity 0.5"],
}
MEASURES = ("spread", "observation")
BOUND = 0.99


class Simulator:
    """A step of the cheetah from any state, for many actions at once."""

    def __init__(self, environment: Environment):
        self.model = environment.physics.model.ptr
        self.data = [mujoco.MjData(self.model) for _ in range(torch.get_num_threads())]
        self.frames = environment.action_repeat * round(environment.frame_seconds / environment.physics.timestep())

    def state(self, environment: Environment) -> Array:
        """Where that environment is: (S,) float64."""
        kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
        found = np.empty(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, environment.physics.data.ptr, found, kind)
        return found

    def outcomes(self, states: Array, actions: Array) -> Array:
        """States (N, S) and actions (N, A) -> the observations (N, D) a step later."""
        from mujoco import rollout

        control = np.repeat(actions.astype(np.float64)[:, None], self.frames, axis=1)
        found, _ = rollout.rollout(self.model, self.data, states, control)
        # Time comes first; the cheetah observes all but where along the track it is, and every velocity.
        return found[:, -1, 2 : 1 + self.model.nq + self.model.nv].astype(np.float32)


class ExactPolicy:
    """PADA's policy where f_target and f_source are the simulators themselves.

    The figures of every step are kept: squared deviation (of u, of a) and share of entries at a bound (of u, of a).
    """

    def __init__(
        self,
        source: Policy,
        targets: list[Environment],
        home: Environment,
        scale: Tensor,
        cem: CemSettings,
        seed: int,
        progress: Progress,
    ):
        """``targets``: those it acts in, whose states it reads; ``scale`` (D,): the unit of every dimension;
        ``progress`` counts steps.
        """
        self.source, self.targets, self.scale = source, targets, scale
        self.cem, self.seed, self.progress = cem, seed, progress
        self.there, self.home = Simulator(targets[0]), Simulator(home)
        self.figures: list[tuple[float, float, float, float]] = []

    def reset(self, batch: int) -> None:
        """Begin ``batch`` episodes, one in each target."""
        self.source.reset(batch)
        self.generators = [torch.Generator().manual_seed(self.seed + row) for row in range(batch)]

    def act(self, observation: Array) -> Array:
        """Observations (B, D) -> actions (B, A) in [-1, 1]."""
        wanted = torch.from_numpy(self.source.act(observation))
        states = np.stack([self.there.state(target) for target in self.targets])
        goal = torch.from_numpy(self.home.outcomes(states, wanted.numpy()))

        def cost(candidates: Tensor, rows: Tensor) -> Tensor:
            asked = candidates.squeeze(2)
            count = asked.shape[1]
            reached = self.there.outcomes(np.repeat(states[rows.numpy()], count, axis=0), asked.flatten(0, 1).numpy())
            missed = (torch.from_numpy(reached).view(len(rows), count, -1) - goal[rows].unsqueeze(1)) / self.scale
            return missed.square().mean(-1)

        plan = search(cost, wanted.unsqueeze(1), self.cem, self.generators)
        found = plan.actions.squeeze(1)
        kept = cost(wanted[:, None, None], torch.arange(len(wanted)))
        bound_u, bound = (float((actions.abs() > BOUND).float().mean()) for actions in (wanted, found))
        self.figures.append((float(kept.mean()), float(plan.cost.mean()), bound_u, bound))
        self.progress.advance(1, deviation=float(plan.cost.mean()) ** 0.5)
        return found.numpy()

    def state(self) -> dict[str, Any]:
        """The source policy's, and where every search is in its random stream."""
        return {"source": self.source.state(), "generators": [each.get_state() for each in self.generators]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.source.restore(state["source"])
        for generator, kept in zip(self.generators, state["generators"], strict=True):
            generator.set_state(kept)


def measure(
    agent: Agent, gap: GapSettings, cem: CemSettings, episodes: int, seed: int, progress: Progress
) -> list[dict[str, Any]]:
    """A row a measure of nearness, as the module says; ``progress`` counts steps."""
    home = judging_targets(GapSettings(action_repeat=gap.action_repeat), seed, episodes)
    source = mean_return(home, agent.policy(), seed)
    unadapted = mean_return(judging_targets(gap, seed, episodes), agent.policy(), seed)
    rows = []
    spread = agent.model.spread
    for name, scale in zip(MEASURES, (spread, torch.ones_like(spread)), strict=True):
        targets = judging_targets(gap, seed, episodes)
        policy = ExactPolicy(agent.policy(), targets, home[0], scale, cem, seed, progress)
        share = mean_return(targets, policy, seed) / source
        missed_by_u, missed, bound_u, bound = np.mean(policy.figures, axis=0)
        rows.append(
            {
                "measure": name,
                "source": round(source),
                "unadapted": round(unadapted / source, 2),
                "exact": round(share, 2),
                "deviation of u": round(float(np.sqrt(missed_by_u)), 3),
                "deviation": round(float(np.sqrt(missed)), 3),
                "at a bound, u": round(float(bound_u), 2),
                "at a bound": round(float(bound), 2),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure, then print and write the table."""
    parser = command_line("PADA on a half-cheetah with the exact deviation.", list(TRIED))
    parser.add_argument("--episodes", type=int, default=5)
    options = parser.parse_args(arguments)
    params = load(Path("params.yaml"))
    limit_threads()
    options.out.mkdir(parents=True, exist_ok=True)
    repeat, rows = params.tasks[TASK].action_repeat, []
    runs = len(options.seeds) * len(options.gaps) * len(MEASURES)
    with Progress("exact", runs * Environment(TASK, repeat, seed=0).episode_steps, "steps") as progress:
        for seed in options.seeds:
            agent, _ = source_agent(params, seed, options.keep)
            for name in options.gaps:
                gap = GapSettings(action_repeat=repeat, **TRIED[name])  # type: ignore[arg-type]
                found = measure(agent, gap, params.rivals.pada.cem, options.episodes, seed, progress)
                rows += [{"gap": name, "seed": seed, **row, "code": commit()} for row in found]
    table = pd.DataFrame(rows)
    write_atomically(options.out / "exact.csv", table.to_csv(index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
