"""params.yaml -> validated, frozen settings.

Every key is declared here with its type and range. A key that is unknown, of the wrong type or out of range is a
``UserError`` that names the key. Nothing here decides *how* a stage runs (device, workers, GL backend): those
settings come from environment variables (``telepath.runtime``), because they must not change a result.

Units: a *step* is one agent decision, which lasts ``action_repeat`` simulator frames.
"""

import difflib
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from telepath.errors import UserError
from telepath.files import one_line

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]
Width = Annotated[int, Field(ge=1, le=10**4)]
Depth = Annotated[int, Field(ge=1, le=100)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Multiplier = Annotated[float, Field(ge=0.01, le=100)]
TransferSetting = Literal["trajectories only", "with source agent"]


DEEPEST = 20
OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


class Settings(BaseModel):
    """Base of all settings: frozen, and no key but the declared ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SeedSettings(Settings):
    """Random seeds, apart so that a sweep over target seeds never retrains the source."""

    source: Seed
    target: Seed
    evaluate: Seed


class GapSettings(Settings):
    """The declared difference of target and source. The identity gap is the source itself.

    ``action_repeat`` is the target's own (frames a step). The multipliers act on the compiled physics: 1 changes
    nothing. Lengths bear the names of the Real-World RL suite. Noise is a standard deviation (action: in units of
    the action range [-1, 1]; observation: of each dimension's own units); delays are in target steps.
    """

    action_repeat: Count
    mass: Multiplier = 1.0
    gravity: Multiplier = 1.0
    friction: Multiplier = 1.0
    damping: Multiplier = 1.0
    gear: Multiplier = 1.0
    armature: Multiplier = 1.0
    joint_stiffness: Multiplier = 1.0
    pole_length: Multiplier = 1.0
    thigh_length: Multiplier = 1.0
    torso_length: Multiplier = 1.0
    shin_length: Multiplier = 1.0
    head_size: Multiplier = 1.0
    action_noise: NonNegative = 0.0
    observation_noise: NonNegative = 0.0
    action_delay: CountOrNone = 0
    observation_delay: CountOrNone = 0


class DreamerSettings(Settings):
    """World model, actor and critic: sizes, losses and optimisers, the same for source, oracle and target."""

    deter: Width
    stoch: Width
    hidden: Width
    layers: Depth
    batch: Width
    length: Annotated[int, Field(ge=2, le=10**9)]
    starts: Count
    horizon: Count
    discount: Annotated[float, Field(gt=0, lt=1)]
    return_lambda: Fraction
    free_nats: NonNegative
    kl_balance: Fraction
    kl_scale: Positive
    reconstruction_scale: Positive
    reward_scale: Positive
    model_lr: Positive
    actor_lr: Positive
    critic_lr: Positive
    grad_clip: Positive
    slow_critic_rate: Fraction
    replayed_value_scale: NonNegative
    steady_actor_rate: Fraction
    return_scale_rate: Fraction
    return_floor: Positive
    entropy: NonNegative
    actor_min_std: Positive
    actor_max_std: Positive
    exploit_noise: NonNegative


class OnlineSettings(Settings):
    """Training on true reward: ``first_updates`` on the seed episodes, then ``update_ratio`` for each step that is
    collected.

    The agent as it is at the end, and as it was ``finalists`` - 1 times before, is rolled out ``final_episodes`` times;
    the true return decides which is kept.
    """

    first_updates: Count
    update_ratio: Positive
    finalists: Count
    final_episodes: Count


class SourceSettings(Settings):
    """Source data and training."""

    seed_episodes: Count
    training: OnlineSettings


class OracleSettings(Settings):
    """The oracle: ``step_multiple`` times Telepath's target steps; at 1 the rival, at more what is feasible at all."""

    step_multiple: Positive
    training: OnlineSettings


class ExploreSettings(Settings):
    """Reward-free exploration of the target.

    Shares of the task's ``explore_steps``: ``random``, ``source_policy`` (only *with source agent*, otherwise it goes
    to disagreement as well); the rest is ensemble disagreement. ``source_noise``: standard deviation added to the
    source policy's actions.
    """

    random: Fraction
    source_policy: Fraction
    source_noise: NonNegative
    members: Annotated[int, Field(ge=2, le=100)]
    update_ratio: Positive


class BeliefSettings(Settings):
    """The prior-belief network and its random subsets: at most ``frames`` records, ``max_skip`` apart."""

    hidden: Width
    frames: Count
    max_skip: Count
    subsets: Count
    batch: Width
    length: Annotated[int, Field(ge=2, le=10**9)]
    lr: Positive
    min_std: Positive
    updates: Count


class CemSettings(Settings):
    """The cross-entropy search over action sequences.

    ``temperature``: an elite counts exp(-excess / temperature), its cost's excess over the best in units of the elites'
    mean excess; None: all count alike. ``tolerance``: a search ends early once its elites' costs lie within this share
    of the best one; 0: never.
    """

    iterations: Count
    population: Annotated[int, Field(ge=2, le=10**9)]
    elite_fraction: Annotated[float, Field(gt=0, le=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    initial_std: Positive
    min_std: NonNegative
    noise_correlation: Annotated[float, Field(ge=0, lt=1)]
    temperature: Positive | None = None
    tolerance: NonNegative = 0.0


class MatchSettings(Settings):
    """Subsequence matching of target replay with source windows: lengths and strides in target (window, stride) and
    source (pool_stride) steps; ``band`` a share of the length; ``tolerance`` in units of the null cost; ``prior`` the
    weight of "unpaid" against a perfect match.
    """

    window: Annotated[int, Field(ge=3, le=10**9)]
    stride: Count
    pool_stride: Count
    slack: NonNegative
    band: Fraction
    candidates: Count
    matches: Count
    null_windows: Count
    tolerance: Positive
    prior: NonNegative
    split: Literal["proportional", "mean"]


class LabelSettings(Settings):
    """Segments and their re-enactment in imagination; ``prefix`` and ``reference`` in source steps.

    ``tolerance`` in units of what a target trajectory's re-enactment with its own actions costs, the median of
    ``null_segments``.
    """

    segments: Count
    prefix: Count
    reference: Annotated[int, Field(ge=2, le=10**9)]
    slack: NonNegative
    band: Fraction
    initial_latents: Count
    proposals: Count
    chunk: Count
    null_segments: Count
    tolerance: Positive
    split: Literal["proportional", "mean"]
    cem: CemSettings
    match: MatchSettings


class TargetSettings(Settings):
    """Refinement of the target policy.

    A round is: roll out, label, re-align ``realign`` segments, then update. ``finalists`` of the rounds' policies are
    rolled out ``final_episodes`` times more; the inferred return decides which is shipped. ``recent`` is the share of
    every batch that comes from the last ``recent_rounds`` alone.

    ``frames``: source frames that the belief net places, for the reward ensemble. ``anchor``: weight of the squared
    distance of actions from those of the best policy so far, against a return of range 1. ``caution``: what a unit of
    novelty costs, in reward a frame; ``predictors`` measure it.
    """

    rounds: Count
    first_updates: Count
    recent: Fraction
    recent_rounds: Count
    realign: CountOrNone
    belief_every: Count
    members: Annotated[int, Field(ge=1, le=100)]
    pessimism: NonNegative
    reward_lr: Positive
    imagined_weight: NonNegative
    imagined_batch: Count
    frames: Count
    anchor: NonNegative
    predictors: Annotated[int, Field(ge=2, le=100)]
    caution: NonNegative
    finalists: Count
    final_episodes: Count


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
    first_noise: Positive
    noise: NonNegative
    lr: Positive
    batch: Width
    update_ratio: Positive
    clone: bool
    cem: CemSettings


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
    noise: NonNegative
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
    input_noise: NonNegative
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


class EvaluateSettings(Settings):
    """How many episodes each agent is judged on; ``curve_episodes`` for each round's policy, ``heldout_episodes`` per
    policy for the label correlation; ``confidence`` of the intervals.
    """

    episodes: Annotated[int, Field(ge=2, le=10**9)]
    curve_episodes: Count
    heldout_episodes: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]


class TaskSettings(Settings):
    """What is tuned per task: the source's action repeat, the budgets in steps, and gradient steps for each step of the
    refinement.
    """

    action_repeat: Count
    source_steps: Count
    explore_steps: Count
    refine_steps: Count
    refine_ratio: Positive


class Params(Settings):
    """The whole of params.yaml."""

    task: str
    setting: TransferSetting
    seed: SeedSettings
    gap: GapSettings
    tasks: dict[str, TaskSettings]
    source: SourceSettings
    dreamer: DreamerSettings
    explore: ExploreSettings
    belief: BeliefSettings
    label: LabelSettings
    target: TargetSettings
    oracle: OracleSettings
    rivals: RivalSettings
    evaluate: EvaluateSettings


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and validate the settings; every mistake is a ``UserError`` of one line that names file and key."""
    try:
        text = path.read_text(encoding="utf-8")
        demand_plain(text)
        content = yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the root of the project") from None
    except Exception as error:
        # Besides its own errors the parser lets through those of the types: a 13th month is a ValueError.
        raise UserError(f"{path}: not readable as YAML ({one_line(error)}); correct it") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a mapping of settings, got {type(content).__name__}")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(explain(error))}") from None
    if params.task not in params.tasks:
        raise UserError(
            f"{path}: task: {one_line(repr(params.task))} has no entry under `tasks`; "
            f"{did_you_mean(params.task, params.tasks)}add one with its action_repeat and budgets"
        )
    return params


def demand_plain(text: str) -> None:
    """Raise ValueError for YAML that no settings need and that can cost any amount of memory or time to read."""
    depth = 0
    for token in yaml.scan(text):
        depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
        if depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        if isinstance(token, yaml.AliasToken):
            raise ValueError("it holds an alias (*name); write the value out")


def explain(error: ValidationError) -> str:
    """The first mistake in a sentence: key, what is wrong, what was found, and how many more there are."""
    mistakes = error.errors(include_url=False)
    first = mistakes[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        reason = (
            f"unknown key; {did_you_mean(str(first['loc'][-1]), siblings(first['loc'][:-1]))}remove it or correct it"
        )
    elif first["type"] == "missing":
        reason = "missing; put it back (see the params.yaml that came with the project)"
    else:
        reason = f"{first['msg'][0].lower()}{first['msg'][1:]}, got {reprlib.repr(first['input'])}"
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return f"{key}: {reason}{more}"


def siblings(location: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at a place of params.yaml."""
    model: Any = Params
    for part in location:
        annotation = model.model_fields[str(part)].annotation if model is not TaskSettings else None
        if annotation == dict[str, TaskSettings]:
            return list(TaskSettings.model_fields)
        model = annotation
    return list(model.model_fields)


def did_you_mean(word: str, known: Any) -> str:
    """A hint at the nearest known word, or nothing."""
    nearest = difflib.get_close_matches(word[:100], list(known), 1)
    return f"did you mean {nearest[0]!r}? " if nearest else ""
