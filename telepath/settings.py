"""Types and ranges of the pipeline's settings, one class for each part of params.yaml.

Nothing here decides *how* a stage runs (device, workers, GL backend): those settings come from environment variables
(``telepath.runtime``), because they must not change a result.

Units: a *step* is one agent decision, which lasts ``action_repeat`` simulator frames.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

# The outermost bounds are far from whatever makes sense, and there so that what is accepted stays within the range of
# 32-bit floats and of memory all the way.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]
Width = Annotated[int, Field(ge=1, le=10**4)]
Depth = Annotated[int, Field(ge=1, le=100)]
Frames = Annotated[int, Field(ge=1, le=10**4)]
Delay = Annotated[int, Field(ge=0, le=10**4)]
Positive = Annotated[float, Field(ge=1e-9, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Noise = Annotated[float, Field(ge=0, le=1e3)]
Spread = Annotated[float, Field(ge=1e-9, le=1e3)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Multiplier = Annotated[float, Field(ge=0.01, le=100)]
TransferSetting = Literal["trajectories only", "with source agent"]
ObservationKind = Literal["state", "pixels", "pixels+state"]


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

    action_repeat: Frames
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
    action_noise: Noise = 0.0
    observation_noise: Noise = 0.0
    action_delay: Delay = 0
    observation_delay: Delay = 0


class DreamerSettings(Settings):
    """World model, actor and critic: sizes, losses, optimisers and replay, the same for source, oracle and target.

    ``cnn_depth``: channels of the first convolution, of which each later one has twice as many; for frames alone.
    ``recent`` is the share of every batch that comes from the last ``recent_steps`` alone; ``imagined`` steps are taken
    in an update, along trajectories as long as the task's ``horizon``. ``grad_clip``: norm at which gradients are
    cut, the actor's at ``actor_clip`` times what is usual.
    """

    deter: Width
    stoch: Width
    hidden: Width
    layers: Depth
    cnn_depth: Width
    batch: Width
    length: Annotated[int, Field(ge=2, le=10**9)]
    recent: Fraction
    recent_steps: Count
    imagined: Count
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
    grad_clip: Annotated[float, Field(ge=1e-9, le=1e30)]
    actor_clip: Annotated[float, Field(ge=1, le=1e30)]
    slow_critic_rate: Fraction
    replayed_value_scale: NonNegative
    steady_actor_rate: Fraction
    return_scale_rate: Fraction
    return_floor: Positive
    entropy: NonNegative
    actor_min_std: Spread
    actor_max_std: Spread
    exploit_noise: Noise

    @field_validator("actor_max_std")
    @classmethod
    def _above_the_least(cls, most: float, earlier: ValidationInfo) -> float:
        least = earlier.data.get("actor_min_std", most)
        if most < least:
            raise PydanticCustomError("range", "input should be at least actor_min_std, {least}", {"least": least})
        return most


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
    """The oracle: ``step_multiple`` times Telepath's target steps; at 1 the rival, at more what is feasible at all.

    After ``first_updates`` it makes as many updates a step as the task's refinement does; the rest is as in
    ``OnlineSettings``.
    """

    step_multiple: Positive
    first_updates: Count
    finalists: Count
    final_episodes: Count

    def training(self, update_ratio: float) -> OnlineSettings:
        """How it is trained, with ``update_ratio`` updates a step."""
        rest = self.model_dump(exclude={"step_multiple"})
        return OnlineSettings(update_ratio=update_ratio, **rest)


class ExploreSettings(Settings):
    """Reward-free exploration of the target.

    Shares of the task's ``explore_steps``: ``random``, ``source_policy`` (only *with source agent*, otherwise it goes
    to disagreement as well); the rest is ensemble disagreement. ``source_noise``: standard deviation added to the
    source policy's actions.
    """

    random: Fraction
    source_policy: Fraction
    source_noise: Noise
    members: Annotated[int, Field(ge=2, le=100)]
    update_ratio: Positive

    @field_validator("source_policy")
    @classmethod
    def _share_at_most_everything(cls, share: float, earlier: ValidationInfo) -> float:
        left = 1 - earlier.data.get("random", 0.0)
        if share > left:
            raise PydanticCustomError("share", "input should be at most {left}, what `random` leaves", {"left": left})
        return share


class BeliefSettings(Settings):
    """The prior-belief network and its random subsets: at most ``frames`` records, ``max_skip`` apart."""

    hidden: Width
    frames: Count
    max_skip: Count
    subsets: Count
    batch: Width
    length: Annotated[int, Field(ge=2, le=10**9)]
    lr: Positive
    min_std: Spread
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
    initial_std: Spread
    min_std: Noise
    noise_correlation: Annotated[float, Field(ge=0, lt=1)]
    temperature: Positive | None = None
    tolerance: NonNegative = 0.0


class MatchSettings(Settings):
    """Subsequence matching of target replay with source windows: lengths and strides in target (window, stride) and
    source (pool_stride) steps; ``band`` a share of the length; ``worth`` what a difference in expected reward counts
    against one in all other dimensions; ``tolerance`` in units of the null cost; ``prior`` the weight of "unpaid"
    against a perfect match.
    """

    window: Annotated[int, Field(ge=3, le=10**9)]
    stride: Count
    pool_stride: Count
    slack: NonNegative
    band: Fraction
    worth: NonNegative
    candidates: Count
    matches: Count
    null_windows: Count
    tolerance: Positive
    prior: NonNegative
    split: Literal["proportional", "mean"]

    @field_validator("stride")
    @classmethod
    def _leave_no_gap(cls, stride: int, earlier: ValidationInfo) -> int:
        window = earlier.data.get("window", stride)
        if stride > window:
            raise PydanticCustomError(
                "gap", "input should be at most the window, {window}, or some records get no label", {"window": window}
            )
        return stride


class LabelSettings(Settings):
    """Segments and their re-enactment in imagination; ``prefix`` and ``reference`` in source steps.

    ``tolerance`` in units of what a target trajectory's re-enactment with its own actions costs, the median of
    ``null_segments``. ``distance``: what imagination and reference are compared by where frames are observed; for
    states it means nothing.
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
    distance: Literal["decoded", "latent"]
    cem: CemSettings
    match: MatchSettings


class TargetSettings(Settings):
    """Refinement of the target policy.

    The first of the ``rounds`` are the source agent's own, if there is one, without updates. After ``first_updates``
    the actor explores: the episodes of a round are spread over its updates, one in ``belief_every`` of which also
    trains the belief net, and at its end ``realign`` segments are re-enacted anew. What may be kept are running
    averages of all weights, which each update moves by ``average_rate`` of the way; ``trials`` times a round they are
    tried out in imagination, on the last ``trial_episodes`` beginnings; of those that do about best the latest is kept.
    ``finalists`` of the rounds' policies are rolled out ``final_episodes`` times more; the inferred return decides
    which is shipped. The share ``beginnings`` of every batch begins where an episode does.

    ``imagined_weight``: of ``imagined_batch`` labels on imagined latents against those on the replay; they are those of
    re-enactments and of ``frames`` source frames that the belief net places.
    """

    rounds: Count
    beginnings: Fraction
    first_updates: Count
    average_rate: Annotated[float, Field(gt=0, le=1)]
    trials: Count
    trial_episodes: Count
    realign: CountOrNone
    belief_every: Count
    imagined_weight: NonNegative
    imagined_batch: Count
    frames: Count
    finalists: Count
    final_episodes: Count


class EvaluateSettings(Settings):
    """How many episodes each agent is judged on; ``curve_episodes`` for each round's policy, ``heldout_episodes`` per
    policy for the label correlation; ``confidence`` of the intervals.
    """

    episodes: Annotated[int, Field(ge=2, le=10**9)]
    curve_episodes: Count
    heldout_episodes: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]


class TaskSettings(Settings):
    """What is tuned per task: the source's action repeat, the budgets in steps, gradient steps for each step of the
    refinement, and the source steps that a behavior looks ahead.
    """

    action_repeat: Frames
    source_steps: Count
    explore_steps: Count
    refine_steps: Count
    refine_ratio: Positive
    horizon: Count
