"""The target policy: trained in the target model's imagination on inferred reward, refined round by round.

It is the source's own training, paid with labels: the episodes of a round are the actor's as it explores, spread over
the round's updates of world model, reward, belief and behavior. The last one is without most of its noise; what the
labels say of it is one half of the round's score. Then some re-enactments are searched anew. When all rounds are over
the best are rolled out again, and the one whose inferred return is highest is shipped; the source agent's own, whose
rounds count with all of their episodes, unless another is clearly better. What is kept of a round are running averages
of all weights, as they were when they last did well in imagination, the other half of the score: from one update to the
next a policy forgets and relearns. Who collects is the agent as it is, so that the model sees what it does now.

*With source agent* the world model begins as the source's, but actor and critic begin from nothing: an actor that was
drilled on other dynamics unlearns its gait before it learns another, and a new one that is trained in a model which
knows the body already is there first. The source agent as it came is not lost: the first rounds are its own, asked at
every step and, in a faster target, at its own pace, so a transfer that harms is found out and not shipped.
No true reward is read: the environment raises if it is touched.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from telepath.alignment.belief import BeliefLearner
from telepath.alignment.labeller import Labeller, ReplayLabels
from telepath.alignment.reenact import Alignments, Reenactor
from telepath.dreamer.agent import Agent
from telepath.dreamer.average import RunningAverage
from telepath.dreamer.behavior import Behavior, Horizon, RewardHead
from telepath.dreamer.learner import BehaviorLearner, Figures, Learner, ModelLearner
from telepath.dreamer.replay import Lesson, Replay, Selection, gather
from telepath.dreamer.rssm import Latent
from telepath.envs.rollout import Policy, rollout
from telepath.envs.suite import Environment
from telepath.episodes import Array, Episode, total_divergences, total_steps
from telepath.runtime.device import continue_from, generator_on, sent
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch
from telepath.settings import TargetSettings
from telepath.transfer.budget import episodes_per_round
from telepath.transfer.knowledge import Knowledge
from telepath.transfer.labels import Labels
from telepath.transfer.reward import Labelled, label_loss
from telepath.transfer.trial import CLOSE, imagined_rates

Weights = dict[str, Tensor]


def copy_of(module: nn.Module) -> Weights:
    """The module's weights and buffers as they are now."""
    return {name: value.clone() for name, value in module.state_dict().items()}


class Snapshot(NamedTuple):
    """What is kept of a round: its agent's weights and pace, the reward head's weights, and the return that the two
    imagine of it; not a number of what was given.
    """

    agent: Weights
    pace: int
    reward: Weights
    imagined_return: float = math.nan


class Round(NamedTuple):
    """One row of the diary: what is known of a round without the true reward.

    steps, updates and divergences of the target's simulator are counted from the beginning, exploration included.
    inferred_return: of the round's last episode, imagined_return: of what is kept.
    """

    steps: int
    updates: int
    divergences: int
    inferred_return: float
    imagined_return: float
    confidence: float
    alignment_cost: float
    reward_loss: float
    belief_loss: float

    @property
    def score(self) -> float:
        """What finalists are chosen by: the mean of what the labels say of an episode and what its model imagines.

        Of one episode the labels know little, and a young model flatters.
        """
        given = math.isnan(self.imagined_return)
        return self.inferred_return if given else (self.inferred_return + self.imagined_return) / 2


def choose(returns: Mapping[int, Array], given: int) -> int:
    """The round whose episodes' returns are best on the mean; rounds before ``given`` are the source agent's own.

    Of these the best one is kept unless another is better by more than the standard error of the difference: that it is
    safe is known, and a few lucky episodes must not replace it.
    """
    best = max(returns, key=lambda number: returns[number].mean())
    own = [number for number in returns if number < given]
    if not own or best in own:
        return best
    safe = max(own, key=lambda number: returns[number].mean())
    spread = [found.var(ddof=1) / len(found) if len(found) > 1 else 0.0 for found in (returns[best], returns[safe])]
    clear = returns[best].mean() - returns[safe].mean() > math.sqrt(sum(spread))
    return best if clear else safe


class Refinement:
    """Trains the target policy, resumably."""

    def __init__(
        self,
        environment: Environment,
        agent: Agent,
        belief: BeliefLearner,
        reenactor: Reenactor,
        known: Knowledge,
        labels: Labels,
        pool: Labeller,
        exploration: list[Episode],
        steps: int,
        update_ratio: float,
        horizon: int,
        settings: TargetSettings,
        seed: int,
    ):
        """``agent`` is trained in ``environment``, whose reward cannot be read, and ``belief`` with it; where they are.

        known: what of the source is known; labels: of the ``exploration`` and of the source's segments, which
        ``reenactor`` imagines again; pool: labels what the target does from now on. steps: decisions that all rounds
        and the choice may take; update_ratio: updates for each of those of a trained round, after the first ones;
        horizon: source steps to look ahead.
        """
        torch.manual_seed(seed)
        self.environment, self.agent, self.settings, self.seed = environment, agent, settings, seed
        self.belief, self.reenactor, self.pool = belief, reenactor, pool
        self.known = known
        self.update_ratio = update_ratio
        self.device = agent.model.device
        self.generator = generator_on(self.device, seed)
        self.rng = np.random.default_rng(seed)
        dreamer = agent.settings
        agent.behavior = Behavior(agent.model.feature_dim, environment.action_dim, dreamer).to(self.device)
        self.reward = RewardHead(agent.model.feature_dim, dreamer).to(self.device)
        ratio = reenactor.rates.ratio
        self.learner = Learner(
            ModelLearner(agent.model, dreamer, self.generator, self.reward, self._reward_loss),
            BehaviorLearner(
                agent.model, agent.behavior, self.reward, dreamer, seed, Horizon.at(dreamer, horizon, ratio)
            ),
        )
        self.steady = RunningAverage(agent, settings.average_rate, settings.first_updates)
        self.steady_reward = RunningAverage(self.reward, settings.average_rate, settings.first_updates)
        self.given = known.agents(ratio)
        self.episodes_per_round = episodes_per_round(steps, environment.episode_steps, settings)
        self.replay = Replay(exploration, Selection.of(dreamer, ratio, settings.beginnings), self.device)
        self.explored = len(exploration)
        self.labels = [replay.rate for replay in labels.replay]
        self.alignments = labels.alignments
        self.updates = 0
        self.rounds: list[Round] = []
        self.snapshots: list[Snapshot] = []
        self.imagined: Labelled | None = None
        self.kept: Snapshot | None = None
        self.highest = -math.inf
        self.final_steps = self.final_divergences = 0
        self.losses: Figures = {"reward": torch.tensor(math.nan), "belief": torch.tensor(math.nan)}
        self.refresh()

    # -- the schedule -------------------------------------------------------------------------------------------------

    def updates_due(self, rounds: int) -> int:
        """Updates that must have been made when ``rounds`` rounds are over; what was given is rolled out before any."""
        trained = rounds - len(self.given)
        if trained <= 0:
            return 0
        per_round = self.update_ratio * self.episodes_per_round * self.environment.episode_steps
        return self.settings.first_updates + round(trained * per_round)

    @property
    def update_budget(self) -> int:
        """Updates in the whole refinement."""
        return self.updates_due(self.settings.rounds)

    def run(self, progress: Progress, scratch: Scratch) -> None:
        """Refine until the rounds are over, from the last checkpoint in ``scratch`` if there is one."""
        if state := scratch.load():
            self.restore(state)
        progress.advance(self.updates)
        while len(self.rounds) < self.settings.rounds:
            while self.updates < self.updates_due(len(self.rounds) + 1):
                self.explore()
                figures = self.update()
                if self.trial_is_due():
                    self.try_out()
                progress.advance(1, steps=self.replay.steps, **figures, **self._last_score())
                scratch.save_if_due(self.state)
            if given := self.given[len(self.rounds) :]:
                self.finish_round(given[0], Snapshot(copy_of(given[0]), given[0].pace, self.steady_reward.weights()))
            else:
                self.finish_round(self.agent, self.kept or self.try_out())
        self.ship()

    def _last_score(self) -> dict[str, float]:
        return {"inferred": self.rounds[-1].inferred_return} if self.rounds else {}

    # -- one update ---------------------------------------------------------------------------------------------------

    def update(self) -> Figures:
        """One step of the world model with its reward head, and of the behavior; now and then one of the belief net."""
        dreamer = self.agent.settings
        batch = self.replay.sample(dreamer.batch, dreamer.length, self.rng)
        rate = gather(self.labels, batch.episode, batch.start, dreamer.length, self.device)

        def heads(states: Latent) -> Figures:
            if self.updates % self.settings.belief_every:
                return {}
            return self.belief.update(batch.observation, states)

        figures = self.learner.update(Lesson(batch, rate, self.imagined_labels()), heads)
        self.losses |= {name: figures[name] for name in self.losses if name in figures}
        self.updates += 1
        self.steady.follow(self.updates)
        self.steady_reward.follow(self.updates)
        return figures | self.losses

    def _reward_loss(self, latent: Latent, lesson: Lesson) -> tuple[Tensor, Figures]:
        assert lesson.rate is not None
        error = label_loss(self.reward, Labelled(latent.feature, lesson.rate, lesson.known))
        loss = self.agent.settings.reward_scale * error
        if lesson.more is not None:
            imagined = self.settings.imagined_weight * label_loss(self.reward, lesson.more)
            loss = loss + self.agent.settings.reward_scale * imagined
        return loss, {"head": loss.detach(), "reward": error.detach()}

    def imagined_labels(self) -> Labelled | None:
        """A random lot of re-enacted transitions; none where they weigh nothing."""
        if self.imagined is None:
            return None
        total = len(self.imagined.rate)
        chosen = self.rng.integers(0, total, min(self.settings.imagined_batch, total))
        return self.imagined.take(sent(chosen, self.device))

    # -- one round ----------------------------------------------------------------------------------------------------

    @property
    def explorers(self) -> int:
        """Episodes of a trained round in which the actor explores: all but the last."""
        return self.episodes_per_round - 1

    def explore(self) -> None:
        """An episode of the exploring actor, when the next is due: they are spread evenly over the round's updates.

        What it does before its first updates would teach nobody anything.
        """
        begin, end = (max(self.settings.first_updates, self.updates_due(len(self.rounds) + more)) for more in (0, 1))
        done = len(self.replay) - self.explored - len(self.rounds) * self.episodes_per_round
        if done < self.explorers and self.updates - begin >= (done + 1) * (end - begin) / self.episodes_per_round:
            self.remember(*self.roll_out(self.agent.explorer(seed=self._seed())))

    def trial_is_due(self) -> bool:
        """Whether the last update was one of those, spread evenly over the round, after which averages are tried."""
        begin, end = (self.updates_due(len(self.rounds) + more) for more in (0, 1))
        done, trials = self.updates - begin, self.settings.trials
        return done * trials // (end - begin) > (done - 1) * trials // (end - begin)

    def try_out(self) -> Snapshot:
        """The averages to keep if the round ended now: the latest of those that do about best of it in imagination.

        What is older flatters itself: while a policy climbs, young models promise as much as those that know better.
        """
        begun = [episode.observation[0] for episode in self.replay.episodes[-self.settings.trial_episodes :]]
        agent, reward, steps = self.steady.average, self.steady_reward.average, self.environment.episode_steps
        rates = imagined_rates(agent, reward, torch.from_numpy(np.stack(begun)), steps, self.seed)
        imagined = float(rates.mean()) * steps * self.environment.action_repeat
        self.highest = max(self.highest, imagined)
        if self.kept is None or imagined >= self.highest - (1 - CLOSE) * abs(self.highest):
            self.kept = Snapshot(self.steady.weights(), agent.pace, self.steady_reward.weights(), imagined)
        return self.kept

    def finish_round(self, agent: Agent, kept: Snapshot) -> None:
        """Keep what is ``kept`` of this round, see what its ``agent`` does, and label that."""
        self.snapshots.append(kept)
        self.kept, self.highest = None, -math.inf
        due = self.explored + (len(self.rounds) + 1) * self.episodes_per_round
        played = []
        while len(self.replay) < due:
            episode, labels = self.roll_out(agent.policy(seed=self._seed()))
            self.remember(episode, labels)
            played.append(labels)
        self.labels = self.pool.revise(self.replay.episodes, self.labels)
        self.realign()
        self.refresh()
        self.rounds.append(
            Round(
                self.replay.steps,
                self.updates,
                self.replay.divergences,
                float(self.inferred_returns([labels.rate for labels in played]).mean()),
                kept.imagined_return,
                float(np.mean([labels.confidence.mean() for labels in played])),
                float(np.median(self.alignments.cost)),
                float(self.losses["reward"]),
                float(self.losses["belief"]),
            )
        )

    def roll_out(self, policy: Policy, number: int = 0) -> tuple[Episode, ReplayLabels]:
        """An episode of the policy and its labels; ``number`` tells episodes apart of which none joins the replay."""
        self.environment.reseed(self.seed, len(self.replay) + number)
        (episode,) = rollout([self.environment], policy)
        return episode, self.pool.label(episode)

    def remember(self, episode: Episode, labels: ReplayLabels) -> None:
        """Into the replay with it."""
        self.replay.add(episode)
        self.labels.append(labels.rate)
        if not self.given:
            # A model that began from nothing; one that began as the source's was trained in the source's units.
            self.agent.model.fit_units(self.replay.observations())

    def inferred_returns(self, rates: list[Array]) -> Array:
        """The return of each episode, as far as its labels tell."""
        return np.array([float(rate[1:].sum()) for rate in rates]) * self.environment.action_repeat

    def played(self, number: int) -> slice:
        """Which of the replay's episodes are a round's."""
        begin = self.explored + number * self.episodes_per_round
        return slice(begin, begin + self.episodes_per_round)

    def _seed(self) -> int:
        return int(self.rng.integers(2**31))

    def realign(self) -> None:
        """Search some segments' re-enactments anew, with the policy's own ideas, and keep those that are nearer."""
        count = min(self.settings.realign, len(self.known.segments))
        if count == 0:
            return
        chosen = self.rng.choice(len(self.known.segments), count, replace=False)
        seeds = self.rng.integers(2**31, size=count)
        segments, old = self.known.segments.take(chosen), self.alignments
        fresh = self.reenactor.align(segments, seeds, self.agent.behavior.steady)
        # The model has moved since the old ones were found.
        nearer = fresh.cost < self.reenactor.replay(segments, old.noise[chosen], old.actions[chosen]).cost
        for field in ("noise", "actions"):
            getattr(old, field)[chosen[nearer]] = getattr(fresh, field)[nearer]

    def refresh(self) -> None:
        """Imagine and align all re-enactments under today's model: the labels of an old one would be stale.

        Where they weigh nothing, nobody waits for it.
        """
        if self.settings.imagined_weight == 0:
            return
        old = self.alignments
        self.alignments = self.reenactor.replay(self.known.segments, old.noise, old.actions)._replace(
            history=old.history
        )
        latent, _ = self.reenactor.latents(self.known.segments, old.noise, old.actions)
        labels = self.reenactor.settings
        null = self.reenactor.null_cost(self.replay.episodes, labels.null_segments, np.random.default_rng(self.seed))
        # Where many source transitions fall on one of the target, it gets all that they were paid: more than any was.
        rate = self.alignments.rate.clip(self.pool.rate.min(), self.pool.rate.max())
        weight = self.alignments.coverage * np.exp(-self.alignments.cost / (labels.tolerance * null))[:, None]
        # Besides what was re-enacted: source frames as they were paid, good and bad ones alike, where the belief net
        # places them. What a policy newly does is overrated by a reward that has seen the target's replay alone.
        placed = self.reenactor.place(self.known.frames.prefix, self.generator).feature
        paid = torch.from_numpy(self.known.frames.rate)
        self.imagined = Labelled(
            torch.cat([latent.feature.transpose(0, 1).flatten(0, 1), placed]),
            torch.cat([torch.from_numpy(rate).flatten(), paid]),
            torch.cat([torch.from_numpy(weight.astype(np.float32)).flatten(), torch.ones_like(paid)]),
        ).to(self.device)

    # -- the choice ---------------------------------------------------------------------------------------------------

    def ship(self) -> None:
        """Leave the agent with the policy whose inferred return is best, judged on fresh episodes."""
        returns: dict[int, Array] = {}
        for number in self.finalists():
            self.take_up(number)
            fresh = [
                self.roll_out(self.agent.policy(seed=self._seed()), count)
                for count in range(self.settings.final_episodes)
            ]
            rates = [labels.rate for _, labels in fresh]
            if number < len(self.given):
                rates += self.labels[self.played(number)]  # by the same policy: what it did then counts as well
            returns[number] = self.inferred_returns(rates)
            self.final_steps += total_steps([episode for episode, _ in fresh])
            self.final_divergences += total_divergences([episode for episode, _ in fresh])
        self.final_scores = {number: float(found.mean()) for number, found in returns.items()}
        self.shipped = choose(returns, len(self.given))
        self.take_up(self.shipped)

    def finalists(self) -> list[int]:
        """The rounds with the best scores, and in any case one that was given: what harms must be found out."""
        scores = np.array([r.score for r in self.rounds])
        order = np.argsort(-scores, kind="stable").tolist()
        chosen, given = order[: self.settings.finalists], [n for n in order if n < len(self.given)]
        if given and given[0] not in chosen and len(chosen) > 1:
            chosen[-1] = given[0]
        return chosen

    @property
    def best_trained(self) -> int:
        """The round with the best score among those that were trained; finalists first."""
        first = len(self.given)
        numbers = range(first, len(self.rounds)) if len(self.rounds) > first else range(len(self.rounds))
        return max(numbers, key=lambda n: (self.final_scores.get(n, -math.inf), self.rounds[n].score))

    def take_up(self, number: int) -> None:
        """Go back to the agent and the reward head of a round."""
        self.agent.load_state_dict(self.snapshots[number].agent)
        self.agent.pace = self.snapshots[number].pace
        self.reward.load_state_dict(self.snapshots[number].reward)

    # -- what is left behind ------------------------------------------------------------------------------------------

    @property
    def target_steps(self) -> int:
        """All agent decisions taken in the target, the final judgement included."""
        return self.replay.steps + self.final_steps

    @property
    def target_divergences(self) -> int:
        """How often the target's simulator diverged meanwhile."""
        return self.replay.divergences + self.final_divergences

    def diary(self) -> pd.DataFrame:
        """A row a round; ``final_score`` only for finalists, ``shipped`` 1 for the chosen one."""
        table = pd.DataFrame(self.rounds, columns=Round._fields)
        table.insert(0, "round", range(len(table)))
        table["score"] = [r.score for r in self.rounds]
        table["final_score"] = table["round"].map(self.final_scores)
        table["shipped"] = (table["round"] == self.shipped).astype(int)
        return table

    def policies(self) -> dict[str, Any]:
        """What the evaluation looks at: every round's agent, counts of steps and divergences, and a reward head.

        The head is the shipped round's, or where the source agent is shipped, the best other round's, ``trained``.
        """
        return {
            "rounds": [self.agent.artefact() | {"weights": s.agent, "pace": s.pace} for s in self.snapshots],
            "trained": self.best_trained,
            "reward": self.snapshots[self.best_trained].reward,
            "target_steps": self.target_steps,
            "target_divergences": self.target_divergences,
        }

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs."""
        return {
            "agent": dict(self.agent.state_dict()),
            "reward": dict(self.reward.state_dict()),
            "steady": dict(self.steady.average.state_dict()),
            "steady_reward": dict(self.steady_reward.average.state_dict()),
            "learner": self.learner.state(),
            "belief": self.belief.state(),
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "updates": self.updates,
            "rounds": [tuple(row) for row in self.rounds],
            "snapshots": [tuple(snapshot) for snapshot in self.snapshots],
            "kept": None if self.kept is None else tuple(self.kept),
            "highest": self.highest,
            "losses": self.losses,
            "alignments": tuple(self.alignments),
            "imagined": None if self.imagined is None else tuple(self.imagined),
            "replay": self.replay.state(self.explored),
            "labels": self.labels[self.explored :],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.agent.load_state_dict(state["agent"])
        self.reward.load_state_dict(state["reward"])
        self.steady.average.load_state_dict(state["steady"])
        self.steady_reward.average.load_state_dict(state["steady_reward"])
        self.learner.restore(state["learner"])
        self.belief.restore(state["belief"])
        continue_from(self.generator, state["generator"])
        self.rng.bit_generator.state = state["rng"]
        self.updates, self.losses = state["updates"], state["losses"]
        self.rounds = [Round(*row) for row in state["rounds"]]
        self.snapshots = [Snapshot(*snapshot) for snapshot in state["snapshots"]]
        self.kept = None if state["kept"] is None else Snapshot(*state["kept"])
        self.highest = state["highest"]
        self.alignments = Alignments(*state["alignments"])
        if state["imagined"] is not None:
            self.imagined = Labelled(*state["imagined"]).to(self.device)
        self.replay.restore(state["replay"])
        # A labeller that learns did so at the end of the last round, from what there was then.
        labels, known = self.labels + state["labels"], self.explored + len(self.rounds) * self.episodes_per_round
        self.labels = self.pool.revise(self.replay.episodes[:known], labels[:known]) + labels[known:]
