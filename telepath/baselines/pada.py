"""PADA: policy adaptation with data aggregation (Song, Mavalankar, Sun and Gao, ICML 2020), with a deviation model.

The source's agent is asked what it would do, u = pi(s), and the source's dynamics what would come of it there,
f_source(s, u). A network learns how far the target misses that when it does something else,

    delta(s, u, a) ~ s' - f_source(s, u),        s' = f_target(s, a),

by least squares over all target transitions so far, |f_source(s, u) + delta(s, u, a) - s'|^2, and the target does what
is expected to miss least, argmin_a |delta(s, u, a)|, found by a search of the cross-entropy method over one action that
begins at u. No reward is read. It works as far as *some* action brings the target in one step where the source would
have gone; what none can do (lift a body that has become too heavy), nothing makes up for later.

The plain form has no deviation model but one of the target itself, fitted to |f_target(s, a) - s'|^2 on the same data,
and takes argmin_a |f_target(s, a) - f_source(s, u)|: what is known of the source does not help the network, and two
whole predictions are compared. The finished policy needs f_source, so it is the learned one (``rivals.pada_model``).

What pi(s) means for our source agent, which is recurrent: it filters the target's observations, and believes of the
past that its own actions u were taken, not those that replaced them. This is what the adaptation strives for: to the
agent the target is to look like home. With other control rates it is asked at its own rate, and u is held in between.

What f_source means with other control rates: the source's dynamics for the *target's* step duration, that is for as
many frames as the target's action repeat. So with a gap in the rate alone the true deviation vanishes at a = u, and
PADA is action hold but for what the learnt one is wrong. In a target that is slower than the source, u is the first
action of the step, held to its end by the simulator; a learned source goes on with the actions that followed it.

Settings as published: two layers of 256 ReLUs, 200 candidates in 10 iterations, 20 % elites, search from the source's
action with standard deviation 0.5. Steps are Adam's, and gradients are cut, as those of all our regressions. Different,
and why:

- *s is the observation*, which is the state but for what the task hides. The simulator is reset to the true physics
  state, which therefore has to be seen while data are collected; the finished policy needs observations only.
- *delta sees u*, where the published code shows it f_source(s, u): with a recurrent, slightly random agent u is no
  function of s. The two tell it the same, and with u the policy needs no simulator to act. Of a it sees a - u, which
  is small where it is asked: a and u as such are nearly equal, and their difference is all that matters.
- *|delta| is measured in units of each dimension's spread in the source*. Unscaled it is almost pure velocity matching.
  The outputs are learnt in units of their own size, or small ones would be learnt last.
- *The first steps are the source's actions with noise, later ones carry Gaussian noise of their own*; published: noise
  of at most 0.1 on 1 % of the actions. One trajectory without noise does not tell which action does what.
- *Gradient steps are spread evenly over the target steps*, over all data; published: 5 epochs every 1000 steps over the
  last 10000. The method adapts within the first episodes, and the loss per data point is the same. A step is taken
  while the next action is searched for, in a second thread if there is one: the search has the network before it.
- *The best candidate of the search is taken*, not the mean of the last elites, so that u, which is one, is kept where
  the network finds nothing better. Candidates come in pairs on both sides of the mean, and their spread is that of the
  elites; in the published code its square root. All are judged in one forward pass, those of all environments at once.
  A search whose elites cost the same but for 1 % (``cem.tolerance``) has ended: the iterations left would change the
  action by 0.0002 or so.
- *Cloning*, optional there as well (``clone``): a network learns the CEM actions taken so far, as a - u from s and u,
  and the search begins at what it says. u stays a candidate.

A delay of the target's observations (``gap.observation_delay``) is not undone: the simulator tells what comes of the
true state at once, so that the deviation holds all that moved meanwhile, which no action mends.
"""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from telepath.alignment.cem import Cost, search
from telepath.baselines.home import LearnedSource, SimulatedSource, SourceDynamics
from telepath.baselines.regression import Fit, Pairs, Regressor, built
from telepath.baselines.rival import Allowed, Figures, episode_budget, noisy
from telepath.dreamer.agent import Agent
from telepath.envs.rollout import ActionHold, Policy, Recorder
from telepath.envs.suite import Environment
from telepath.episodes import Array
from telepath.errors import UserError
from telepath.rival_settings import PadaSettings, PlainPadaSettings
from telepath.runtime.device import side_by_side
from telepath.settings import CemSettings


class Deviation(nn.Module):
    """delta(s, u, a) (D,), in the observation's own units; ``scale`` (D,) is a dimension's spread in the source.

    ``seen``: how many numbers the network sees.
    """

    scale: Tensor

    def __init__(self, observation_dim: int, action_dim: int, hidden: int):
        super().__init__()
        self.seen = observation_dim + 2 * action_dim
        self.regressor = Regressor(self.seen, observation_dim, hidden)
        self.register_buffer("scale", torch.ones(observation_dim))

    def forward(self, observation: Tensor, wanted: Tensor, action: Tensor) -> Tensor:
        """Observations (..., D), source actions u (..., A) and actions (..., A) -> (..., D)."""
        return self.regressor(self.inputs(observation, wanted, action))

    @staticmethod
    def inputs(observation: Tensor, wanted: Tensor, action: Tensor) -> Tensor:
        """What the network sees of the three: (..., D + 2A)."""
        return torch.cat([observation, wanted, action - wanted], -1)

    @staticmethod
    def outcome(before: Tensor, after: Tensor, expected: Tensor) -> Tensor:
        """What the network is to say where the target went from ``before`` to ``after``, the source to ``expected``."""
        return after - expected

    def cost(self, observation: Tensor, wanted: Tensor) -> Cost:
        """|delta|^2 for observations (B, D) and source actions (B, A) as what a search minimises over single actions:
        the mean over the dimensions in units of the spread.
        """
        scaled = self.regressor.with_first(torch.cat([observation, wanted], 1), self.scale)

        def cost(candidates: Tensor, rows: Tensor) -> Tensor:
            return scaled(candidates.squeeze(2) - wanted[rows].unsqueeze(1), rows).square().mean(-1)

        return cost


class Difference(Deviation):
    """f_target(s, a) - f_source(s, u), both learned as changes of s: the plain form. Only f_target is trained here."""

    def __init__(self, observation_dim: int, action_dim: int, hidden: int):
        super().__init__(observation_dim, action_dim, hidden)
        self.seen = observation_dim + action_dim
        self.regressor = Regressor(self.seen, observation_dim, hidden)
        self.source = Regressor(self.seen, observation_dim, hidden)

    def forward(self, observation: Tensor, wanted: Tensor, action: Tensor) -> Tensor:
        """Observations (..., D), source actions u (..., A) and actions (..., A) -> (..., D)."""
        return super().forward(observation, wanted, action) - self.source(torch.cat([observation, wanted], -1))

    @staticmethod
    def inputs(observation: Tensor, wanted: Tensor, action: Tensor) -> Tensor:
        """What the target's model sees: (..., D + A)."""
        return torch.cat([observation, action], -1)

    @staticmethod
    def outcome(before: Tensor, after: Tensor, expected: Tensor) -> Tensor:
        """The target's own change."""
        return after - before

    @torch.no_grad()
    def cost(self, observation: Tensor, wanted: Tensor) -> Cost:
        """The same of the two models' difference."""
        scaled = self.regressor.with_first(observation, self.scale)
        home = (self.source(torch.cat([observation, wanted], 1)) / self.scale).unsqueeze(1)

        def cost(candidates: Tensor, rows: Tensor) -> Tensor:
            return (scaled(candidates.squeeze(2), rows) - home[rows]).square().mean(-1)

        return cost


class Habit(nn.Module):
    """A clone of the CEM actions: (s, u) -> a."""

    def __init__(self, observation_dim: int, action_dim: int, hidden: int):
        super().__init__()
        self.regressor = Regressor(observation_dim + action_dim, action_dim, hidden)

    def fit_units(self, inputs: Tensor) -> None:
        """Choose the units of s and u, with which the deviation model's ``inputs`` (N, n) begin (the plain model's with
        s and a, which is u and noise). Actions have theirs already.
        """
        seen = len(self.regressor.center)
        self.regressor.fit_units(inputs[:, :seen], torch.ones_like(inputs[:, :1]).expand(-1, len(self.regressor.size)))

    @torch.no_grad()
    def forward(self, observation: Tensor, wanted: Tensor) -> Tensor:
        """Observations (..., D) and source actions (..., A) -> actions (..., A)."""
        return (wanted + self.regressor(torch.cat([observation, wanted], -1))).clamp(-1, 1)


@torch.no_grad()
def adapted_action(
    deviation: Deviation,
    observation: Tensor,
    wanted: Tensor,
    cem: CemSettings,
    generators: list[torch.Generator],
    habit: Habit | None = None,
) -> Tensor:
    """argmin_a |delta(s, u, a)| for observations (B, D) and source actions (B, A): (B, A). One generator a row.

    The search begins at the habit's action if there is a habit, otherwise at u, which is a candidate in any case.
    """
    cost = deviation.cost(observation, wanted)
    if habit is None:
        return search(cost, wanted.unsqueeze(1), cem, generators).actions.squeeze(1)
    start = habit(observation, wanted).unsqueeze(1)
    return search(cost, start, cem, generators, wanted[:, None, None]).actions.squeeze(1)


class AdaptedPolicy:
    """The source's policy, its actions exchanged for those that do in the target what they would do at home."""

    def __init__(self, source: Policy, deviation: Deviation, cem: CemSettings, habit: Habit | None, seed: int = 0):
        """``source`` acts at the target's rate."""
        self.source, self.deviation, self.cem, self.habit, self.seed = source, deviation, cem, habit, seed

    def reset(self, batch: int) -> None:
        """Begin ``batch`` episodes."""
        self.source.reset(batch)
        self.generators = [torch.Generator().manual_seed(self.seed + row) for row in range(batch)]

    def act(self, observation: Array) -> Array:
        """Observations (B, D) -> actions (B, A) in [-1, 1]."""
        wanted = torch.from_numpy(self.source.act(observation))
        seen = torch.from_numpy(observation)

        def adapted(rows: slice) -> Tensor:
            return adapted_action(self.deviation, seen[rows], wanted[rows], self.cem, self.generators[rows], self.habit)

        if len(seen) == 1:
            return adapted(slice(None)).numpy()
        half = slice(len(seen) // 2), slice(len(seen) // 2, None)
        return torch.cat(side_by_side(partial(adapted, half[0]), partial(adapted, half[1]))).numpy()

    def state(self) -> dict[str, Any]:
        """The source policy's, and where the search of every row is in its random stream."""
        return {"source": self.source.state(), "generators": [each.get_state() for each in self.generators]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.source.restore(state["source"])
        for generator, kept in zip(self.generators, state["generators"], strict=True):
            generator.set_state(kept)


def demand_steps(settings: PlainPadaSettings, target: Environment, steps: int) -> None:
    """Raise ``UserError`` where the first steps leave nothing of so many target ``steps`` to adapt in."""
    whole = episode_budget(target, steps) * target.episode_steps
    if settings.first_steps >= whole:
        name = "pada" if isinstance(settings, PadaSettings) else "pada_model"
        what = f"{settings.first_steps} leave nothing of the {whole} target steps in whole episodes to adapt in"
        raise UserError(f"rivals.{name}.first_steps: {what}; choose fewer, or more target steps")


class Pada:
    """Adapts a source agent to a target online."""

    def __init__(self, allowed: Allowed, settings: PlainPadaSettings):
        demand_steps(settings, allowed.target, allowed.steps)
        torch.manual_seed(allowed.seed)
        self.source, self.target, self.settings, self.seed = allowed.agent, allowed.target, settings, allowed.seed
        self.rate_ratio = allowed.rates.ratio
        model = self.source.model
        sizes = model.observation_dim, model.action_dim, settings.hidden
        self.dynamics: SourceDynamics
        self.deviation: Deviation
        if isinstance(settings, PadaSettings) and settings.source == "simulator":
            self.dynamics = SimulatedSource(allowed.simulator)
        else:
            self.dynamics = LearnedSource(allowed.episodes, allowed.rates, settings, allowed.seed)
        if isinstance(settings, PadaSettings):
            self.deviation = Deviation(*sizes)
        else:
            assert isinstance(self.dynamics, LearnedSource)
            self.deviation = difference = Difference(*sizes)
            difference.source.load_state_dict(self.dynamics.model.state_dict())
        self.deviation.scale.copy_(model.spread)
        self.fit = Fit("PADA's model", self.deviation.regressor, settings.lr, settings.batch, allowed.seed)
        self.pairs = Pairs(allowed.steps, self.deviation.seen, model.observation_dim)
        self.habit = Habit(*sizes) if settings.clone else None
        if self.habit is not None:
            self.habit_fit = Fit("clone", self.habit.regressor, settings.lr, settings.batch, allowed.seed)
        self.acted = Pairs(allowed.steps, model.observation_dim + model.action_dim, model.action_dim)
        # What acts: copies, so that the originals may learn meanwhile.
        self.live = nn.ModuleList(part for part in (self.deviation, self.habit) if part is not None)
        self.acting = copy.deepcopy(self.live).requires_grad_(False)
        self.rng = np.random.default_rng(allowed.seed)
        self.generator = torch.Generator().manual_seed(allowed.seed)
        self.steps = self.updates = 0
        self.ready = False

    def episode(self, number: int) -> tuple[int, Figures]:
        """Act through an episode, and with every step learn from those before it.

        Figures: deviation, the root mean square of s' - f_source(s, u) in units of the spread; loss, of the model.
        """
        self.target.reseed(self.seed, number)
        self.dynamics.begin(self.seed, number)
        source = ActionHold(self.source.policy(seed=int(self.rng.integers(2**31))), self.rate_ratio)
        source.reset(1)
        recorder, losses, missed = Recorder(self.target), [], []
        while not recorder.over:
            observation, state = recorder.observation[-1], self.target.physics_state()
            (wanted, found), learnt = side_by_side(partial(self.consider, source, observation), self.learn)
            action = self.decide(observation, wanted, found)
            recorder.step(action)
            self.steps += 1
            # The last step of an episode may be shorter than the others.
            expected = None if recorder.over else self.dynamics.next(state, observation, wanted)
            if expected is not None:
                after = recorder.observation[-1]
                row = self.deviation.inputs(*rows_of(observation, wanted, action))
                self.pairs.add(row, self.deviation.outcome(*rows_of(observation, after, expected)))
                missed.append((after - expected) / self.deviation.scale.numpy())
            losses += learnt
            self.look()
        deviation = float(np.sqrt(np.mean(np.square(missed or [0.0]))))
        figures = {"deviation": deviation, "loss": float(np.mean(losses or [1.0]))}
        return recorder.episode().steps, figures

    def consider(self, source: Policy, observation: Array) -> tuple[Array, Array | None]:
        """What the source would do (A,), and what does the same here (A,), if anything is known of that yet."""
        wanted = source.act(observation[None])[0]
        if not self.ready:
            return wanted, None
        deviation, *habit = self.acting
        seen, asked = rows_of(observation, wanted)
        return wanted, adapted_action(deviation, seen, asked, self.settings.cem, [self.generator], *habit)[0].numpy()  # type: ignore[arg-type]

    def decide(self, observation: Array, wanted: Array, found: Array | None) -> Array:
        """The action (A,) to take, with noise."""
        if found is None:
            return noisy(wanted, self.settings.first_noise, self.rng)
        if self.habit is not None:
            seen, asked, chosen = rows_of(observation, wanted, found)
            self.acted.add(torch.cat([seen, asked], 1), chosen - asked)
        return noisy(found, self.settings.noise, self.rng)

    @torch.no_grad()
    def look(self) -> None:
        """Act from now on as what has been learnt says."""
        self.ready = self.updates > 0
        torch._foreach_copy_(list(self.acting.parameters()), list(self.live.parameters()))
        torch._foreach_copy_(list(self.acting.buffers()), list(self.live.buffers()))

    def learn(self) -> list[float]:
        """The gradient steps that are due; the losses."""
        if self.steps < self.settings.first_steps:
            return []
        if self.updates == 0:
            self.deviation.regressor.fit_units(self.pairs.inputs, self.pairs.outputs)
            if self.habit is not None:
                self.habit.fit_units(self.pairs.inputs)
        losses = []
        while self.updates < self.settings.update_ratio * self.steps:
            losses.append(self.fit.update(self.pairs.inputs, self.pairs.outputs))
            self.updates += 1
            if self.habit is not None and len(self.acted):
                self.habit_fit.update(self.acted.inputs, self.acted.outputs)
        return losses

    def artefact(self) -> dict[str, Any]:
        """The adapted policy."""
        return {
            "source": self.source.artefact(),
            "rate_ratio": self.rate_ratio,
            "hidden": self.settings.hidden,
            "plain": isinstance(self.deviation, Difference),
            "deviation": dict(self.deviation.state_dict()),
            "habit": None if self.habit is None else dict(self.habit.state_dict()),
            "cem": self.settings.cem.model_dump(),
        }

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs, between two episodes."""
        return {
            "fit": self.fit.state(),
            "pairs": self.pairs.state(),
            "acted": self.acted.state(),
            "habit": None if self.habit is None else self.habit_fit.state(),
            "rng": self.rng.bit_generator.state,
            "generator": self.generator.get_state(),
            "steps": self.steps,
            "updates": self.updates,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.fit.restore(state["fit"])
        self.pairs.restore(state["pairs"])
        self.acted.restore(state["acted"])
        if self.habit is not None:
            self.habit_fit.restore(state["habit"])
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"])
        self.steps, self.updates = state["steps"], state["updates"]
        self.look()


def rows_of(*parts: Array) -> tuple[Tensor, ...]:
    """Single observations or actions (n,) as batches of one (1, n)."""
    return tuple(torch.from_numpy(part)[None] for part in parts)


def adapted_policy(stored: dict[str, Any], path: Path) -> AdaptedPolicy:
    """The policy that ``Pada.artefact()`` describes; ``path`` is where it was read."""
    agent = Agent.from_artefact(stored["source"], path)
    sizes = agent.model.observation_dim, agent.model.action_dim, stored["hidden"]
    deviation = built(lambda: (Difference if stored["plain"] else Deviation)(*sizes), stored["deviation"])
    habit = None if stored["habit"] is None else built(lambda: Habit(*sizes), stored["habit"])
    held = ActionHold(agent.policy(), stored["rate_ratio"])
    return AdaptedPolicy(held, deviation, CemSettings(**stored["cem"]), habit)
