"""Types and ranges of the rivals' settings: the part ``rivals`` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from telepath.settings import CemSettings, Count, Fraction, Noise, NonNegative, Positive, Settings, Spread, Width


class ActionSearchSettings(CemSettings):
    """The search for a single action, of which all candidates are judged at once, for every episode."""

    population: Annotated[int, Field(ge=2, le=10**4)]


class PlainPadaSettings(Settings):
    """PADA with a learned model of the target instead of the deviation model, and one of the source, fitted for
    ``source_updates``.

    For ``first_steps`` target steps the source's actions are taken with noise ``first_noise``, then the adapted ones
    with ``noise`` (standard deviations). ``update_ratio``: gradient steps a target step. With ``clone`` the search for
    an action begins at what a clone of the actions found so far would do.
    """

    source_updates: Count
    hidden: Width
    first_steps: Count
    first_noise: Spread
    noise: Noise
    lr: Positive
    batch: Width
    update_ratio: Positive
    clone: bool
    cem: ActionSearchSettings


class PadaSettings(PlainPadaSettings):
    """PADA with the deviation model: ``source`` says where the source's next observation comes from, its simulator or
    the learned model.
    """

    source: Literal["simulator", "learned"]


class BcoSettings(Settings):
    """Behaviour cloning from observation of the ``demonstrations`` best source episodes.

    The share ``random`` of the target episodes has random actions, the rest the clone's with ``noise`` (standard
    deviation). ``history``: observations that the clone sees at once; ``update_ratio``: gradient steps of each of the
    two networks a target step.
    """

    demonstrations: Count
    history: Count
    random: Fraction
    noise: Noise
    hidden: Width
    lr: Positive
    batch: Width
    update_ratio: Positive


class AimeSettings(Settings):
    """Action inference on the ``demonstrations`` best source episodes, in a Dreamer's world model.

    The share ``random`` of the target episodes has random actions, the rest the policy's. ``update_ratio``: gradient
    steps of model and of policy a target step; ``lr``: the policy's.
    """

    demonstrations: Count
    random: Fraction
    update_ratio: Positive
    lr: Positive


class MatchingSettings(Settings):
    """The target agent on DTW matching alone, ``label.match``, without re-enactments. Nothing of its own to set."""


class TransportSettings(Settings):
    """Optimal transport to the ``demonstrations`` best source episodes: Sinkhorn's ``iterations``, ``epsilon`` in units
    of the mean cost.
    """

    demonstrations: Count
    epsilon: Positive
    iterations: Count


class TemporalTransportSettings(TransportSettings):
    """TemporalOT: a pair's cost is the mean over ``context`` steps, mass moves at most ``reach`` steps in time."""

    context: Count
    reach: Count


class CoverageSettings(Settings):
    """Ordered coverage of ``subgoals`` frames of the ``demonstrations`` best source episodes.

    As good an episode as they are covers one of them with probability exp(-1 / ``tolerance``).
    """

    demonstrations: Count
    subgoals: Annotated[int, Field(ge=2, le=10**4)]
    tolerance: Positive


class DiscriminatorSettings(Settings):
    """GAIfO's discriminator against the ``demonstrations`` best source episodes, fitted for ``updates`` each round.

    ``penalty``: weight of the squared gradient at the data.
    """

    demonstrations: Count
    hidden: Width
    lr: Positive
    batch: Annotated[int, Field(ge=2, le=10**4)]
    updates: Count
    penalty: NonNegative


class DarcSettings(Settings):
    """DARC: two domain classifiers with ``input_noise`` in units of the inputs' spread, a step each an update.

    A nat of implausibility in the target costs ``nat`` in units of reward a frame, up to ``limit`` nats. The share
    ``random`` of the target episodes has random actions, the others are the policy's.
    """

    hidden: Width
    lr: Positive
    batch: Annotated[int, Field(ge=2, le=10**4)]
    input_noise: Noise
    nat: NonNegative
    limit: Positive
    random: Fraction


class RandomisedSettings(Settings):
    """Domain randomisation over ``variants`` of the source, each of the ``quantities`` (multipliers of ``gap``) times a
    factor from [1 / ``factor``, ``factor``].
    """

    variants: Annotated[int, Field(ge=1, le=1000)]
    quantities: list[str]
    factor: Annotated[float, Field(ge=1, le=100)]


class RivalSettings(Settings):
    """The rivals, each with Telepath's number of target steps."""

    pada: PadaSettings
    pada_model: PlainPadaSettings
    bco: BcoSettings
    aime: AimeSettings
    dtw: MatchingSettings
    ot: TransportSettings
    temporal_ot: TemporalTransportSettings
    orca: CoverageSettings
    gaifo: DiscriminatorSettings
    darc: DarcSettings
    randomised: RandomisedSettings
