"""Domain randomisation: a policy for every target is one for this one too (Peng, Andrychowicz, Zaremba and Abbeel, ICRA
2018).

The source agent's training, in a source that has other physics mu in every episode,

    max_pi  E_{mu ~ rho} E_{pi, mu} [ sum_t gamma^t r_t ]:

each of the named quantities is multiplied by a factor drawn from [1 / ``factor``, ``factor``], evenly in its logarithm.
Our agent is recurrent, as theirs is, so that it can find out where it is. The target is not touched at all; what is
known of it is its control rate. Trained for as long, in seconds and in updates, as the source agent was.

Different from the paper: a fixed number of ``variants``, because every one is a model to compile; quantities that the
task does not have are left out.
"""

import math

import numpy as np

from telepath.config import did_you_mean
from telepath.envs.gaps import MULTIPLIERS, TargetEnvironment, applicable, target_simulator
from telepath.errors import UserError
from telepath.rival_settings import RandomisedSettings
from telepath.settings import GapSettings

VARIANT_STREAM = 2
"""Sets the draw of the factors apart from other random streams of the same seed."""


def random_gaps(task: str, action_repeat: int, settings: RandomisedSettings, seed: int) -> list[GapSettings]:
    """As many gaps as there are variants; a ``UserError`` where the task has none of the quantities."""
    valid = applicable(task)
    for name in settings.quantities:
        if name not in MULTIPLIERS:
            mend = did_you_mean(name, MULTIPLIERS) or f"valid are {', '.join(valid)}"
            raise UserError(f"rivals.randomised.quantities: no quantity {name!r}; {mend}".strip())
    names = [name for name in settings.quantities if name in valid]
    if not names:
        raise UserError(f"rivals.randomised.quantities: {task} has none of these; valid are {', '.join(valid)}")
    rng = np.random.default_rng([seed, VARIANT_STREAM])
    reach = math.log(settings.factor)
    factors = np.exp(rng.uniform(-reach, reach, (settings.variants, len(names))))
    return [GapSettings(action_repeat=action_repeat, **dict(zip(names, row.tolist(), strict=True))) for row in factors]


class RandomisedSource(TargetEnvironment):
    """The source with reward, with other physics in every episode; which, the number of the episode says."""

    def __init__(self, task: str, action_repeat: int, settings: RandomisedSettings, seed: int):
        self.simulators = [target_simulator(task, gap) for gap in random_gaps(task, action_repeat, settings, seed)]
        super().__init__(task, GapSettings(action_repeat=action_repeat), seed, rewarded=True)

    def reseed(self, seed: int, episode: int) -> None:
        """Make the next ``reset`` begin episode number ``episode`` of ``seed``, in its own physics."""
        variant = int(np.random.default_rng([seed, episode, VARIANT_STREAM]).integers(len(self.simulators)))
        self.simulator = self.simulators[variant]
        self.physics = self.simulator.physics
        super().reseed(seed, episode)
