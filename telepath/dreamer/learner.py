"""One gradient step of each part: the world model with its heads, and a behavior in imagination."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from telepath.dreamer.behavior import (
    Behavior,
    Dream,
    Experience,
    Horizon,
    Scale,
    actor_loss,
    critic_loss,
    dream_from,
    replayed_value_loss,
    set_out,
)
from telepath.dreamer.clipping import UsualNorm, cut
from telepath.dreamer.replay import Lesson
from telepath.dreamer.rssm import Latent, WorldModel, world_model_loss
from telepath.episodes import Episode
from telepath.errors import Fault
from telepath.runtime.device import continue_from, generator_on, shared_out, side_by_side
from telepath.runtime.environment import DEVICE
from telepath.runtime.graphs import CudaRecorder, Recorded, Recorder, cloned, recording, tensors_in
from telepath.settings import DreamerSettings

Figures = dict[str, Tensor]
"""Losses and values for the progress line: detached scalars, on the device, so that nobody has to wait for them."""

HeadLoss = Callable[[Latent, Lesson], tuple[Tensor, Figures]]
"""The loss of a head on filtered states (T, B, ...) of a lesson, a scalar, and what there is to tell of it."""

Gradients = dict[str, Tensor]
"""Of parameters, by name."""

HALVED_FROM = 512
"""Starts from which on a behavior imagines in halves; with fewer it keeps one thread and the world model the other."""

INSPECTED_EVERY = 50
"""Recorded updates between two looks at whether all weights are finite."""


class ModelLearner:
    """Fits a world model, and a head on top of it, to replayed windows."""

    def __init__(
        self,
        model: WorldModel,
        settings: DreamerSettings,
        generator: torch.Generator,
        head: nn.Module | None = None,
        head_loss: HeadLoss | None = None,
    ):
        self.model, self.settings, self.generator = model, settings, generator
        self.head_loss = head_loss
        self.parameters = dict(model.named_parameters())
        if head is not None:
            self.parameters |= {f"head.{name}": parameter for name, parameter in head.named_parameters()}
        self.optimizer = optimizer_of(self.parameters, settings.model_lr)

    def update(self, lesson: Lesson) -> tuple[Latent, Figures]:
        """One step. Returns the filtered states (T, B, ...), detached, and the losses."""
        batch = lesson.batch
        observed = self.model.observe(batch.observation, batch.action, self.generator)
        loss = world_model_loss(self.model, observed, batch.observation, batch.terminal, self.settings)
        total, figures = loss.total, {"model": loss.reconstruction, "kl": loss.kl}
        if self.head_loss is not None:
            head, more = self.head_loss(observed.latent, lesson)
            total, figures = total + head, figures | more
        descend(self.optimizer, self.parameters, total, self.settings.grad_clip, "world model", tensors_of(batch))
        return observed.latent.detach(), figures

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the networks."""
        return self.optimizer.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        resume(self.optimizer, state)


class BehaviorLearner:
    """Improves an actor and its critic in a world model's imagination.

    It imagines with copies of the world model and of the reward, so that the originals may be updated meanwhile; no
    gradient is taken for the copies' weights, which saves a third of the backward pass.
    """

    def __init__(
        self,
        model: WorldModel,
        behavior: Behavior,
        reward: nn.Module,
        settings: DreamerSettings,
        seed: int,
        horizon: Horizon,
    ):
        """``reward`` maps features to rates."""
        self.live = nn.ModuleList([model, reward])
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.reward = copy.deepcopy(reward).requires_grad_(False)
        self.copies = nn.ModuleList([self.model, self.reward])
        self.behavior, self.settings = behavior, settings
        self.generator = generator_on(model.device, seed)
        self.horizon = horizon
        self.actor_parameters = dict(behavior.actor.named_parameters())
        self.critic_parameters = dict(behavior.critic.net.named_parameters())
        self.actor_optimizer = optimizer_of(self.actor_parameters, settings.actor_lr)
        self.critic_optimizer = optimizer_of(self.critic_parameters, settings.critic_lr)
        self.actor_norm = UsualNorm(settings.actor_clip, model.device)

    @torch.no_grad()
    def look(self) -> None:
        """Take up world model and reward as they are now."""
        torch._foreach_copy_(list(self.copies.parameters()), list(self.live.parameters()))
        torch._foreach_copy_(list(self.copies.buffers()), list(self.live.buffers()))

    def in_halves(self, experience: Experience) -> bool:
        """Whether an update on this imagines its trajectories in two halves.

        A matter of sizes alone, never of threads: halves are rounded otherwise than a whole. A GPU is shared by nobody.
        """
        starts = min(self.horizon.starts, experience.terminal.numel())
        return starts >= HALVED_FROM and experience.terminal.device.type == "cpu"

    def update(self, experience: Experience) -> Figures:
        """One step from a random subset of the filtered states, with the model last looked at."""
        return self.improve_critic(experience, self.improve_actor(experience))

    def improve_actor(self, experience: Experience) -> "Dreamt":
        """The actor's step. Its halves meet where the scale is taken of all returns, and where gradients are added."""
        start = subset(experience.states, self.horizon.starts, self.generator)
        outset = set_out(self.model, start, self.horizon.steps, self.generator)
        outsets = outset.halves() if self.in_halves(experience) else [outset]
        dreams = shared_out(partial(dream_from, self.model, self.behavior, self.reward, self.horizon), outsets)
        scale = self.behavior.measure(torch.cat([dream.returns.detach() for dream in dreams], 1))
        # The price is one of the settings' steps': an action that lasts half as long moves the return half as much, and
        # would else be twice as noisy.
        price = self.settings.entropy * self.horizon.share

        def slope(dream: Dream) -> tuple[Tensor, Gradients]:
            return slope_of(actor_loss(dream, scale, price), self.actor_parameters)

        loss, gradients = total(shared_out(slope, dreams))
        inputs = tensors_of(start)
        step(self.actor_optimizer, self.actor_parameters, loss, gradients, self.actor_norm, "actor", inputs)
        return Dreamt(dreams, scale, inputs)

    def improve_critic(self, experience: Experience, dreamt: "Dreamt") -> Figures:
        """The critic's step, on what the actor dreamt and on what really followed."""
        (states, rate, terminal), (dreams, scale, inputs) = experience, dreamt
        losses, values = zip(*(critic_loss(self.behavior.critic, dream, scale) for dream in dreams), strict=True)
        loss = torch.stack(losses).sum()
        if rate is not None:
            replayed = replayed_value_loss(self.behavior, states.feature, rate, terminal, self.horizon)
            loss = loss + self.settings.replayed_value_scale * replayed / scale.returns.square()
            inputs = inputs | {"rate": rate}
        descend(self.critic_optimizer, self.critic_parameters, loss, self.settings.grad_clip, "critic", inputs)
        self.behavior.follow()
        return {"value": torch.stack(values).sum()}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the networks."""
        return {
            "actor": self.actor_optimizer.state_dict(),
            "critic": self.critic_optimizer.state_dict(),
            "actor_norm": self.actor_norm.state(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        resume(self.actor_optimizer, state["actor"])
        resume(self.critic_optimizer, state["critic"])
        self.actor_norm.restore(state["actor_norm"])
        continue_from(self.generator, state["generator"])


class Dreamt(NamedTuple):
    """What the actor's step leaves to the critic's: dreams, their scale, and by name what they were made of."""

    dreams: list[Dream]
    scale: Scale
    inputs: dict[str, Tensor]


class Learner:
    """A world model and a behavior that learn side by side.

    The behavior starts from the states of the batch before, in the model as it was then, so that neither waits for the
    other. Of a large one only the critic learns beside the model; its actor takes both threads before. On a GPU an
    update is recorded and started as a whole.
    """

    def __init__(self, model: ModelLearner, behavior: BehaviorLearner, recorder: Recorder | None = None):
        """``recorder``: of a GPU its own, if none is given; the CPU has none."""
        self.model, self.behavior = model, behavior
        self.experience: Experience | None = None
        device = model.model.device
        if recorder is None and device.type == "cuda":
            recorder = CudaRecorder(device, [model.generator, behavior.generator])
        self.recorded = Recorded(self._update, recorder) if recorder is not None else None

    def update(self, lesson: Lesson, heads: Callable[[Latent], Figures] | None = None) -> Figures:
        """One step of each; ``heads`` trains whatever else reads the states of this lesson and changes no behavior."""
        if self.experience is None:
            fresh, figures = self._learn_model(lesson, heads)
            self.experience = cloned(fresh)
            return figures
        if self.recorded is None:
            return self._update(lesson, heads)
        figures = self.recorded(lesson)
        if self.recorded.calls % INSPECTED_EVERY == 0:
            self.inspect()
        return figures if heads is None else figures | heads(self.experience.states)

    def _update(self, lesson: Lesson, heads: Callable[[Latent], Figures] | None = None) -> Figures:
        assert self.experience is not None
        before = self.experience
        self.behavior.look()
        if self.behavior.in_halves(before):
            # The critic is about as much work as the world model, so both threads end at about the same time.
            behavior = partial(self.behavior.improve_critic, before, self.behavior.improve_actor(before))
        else:
            behavior = partial(self.behavior.update, before)
        model = partial(self._learn_model, lesson, heads)
        (fresh, figures), improved = side_by_side(model, behavior, self.model.model.device)
        torch._foreach_copy_(tensors_in(before), tensors_in(fresh))
        return figures | improved

    def _learn_model(self, lesson: Lesson, heads: Callable[[Latent], Figures] | None) -> tuple[Experience, Figures]:
        states, figures = self.model.update(lesson)
        if heads is not None:
            figures = figures | heads(states)
        return Experience(states, lesson.rate, lesson.batch.terminal), figures

    def inspect(self) -> None:
        """Raise a ``Fault`` that names the parts whose weights are not all finite: a recorded update looks at nothing.

        What spoiled them lies up to ``INSPECTED_EVERY`` updates back; a part that learns from a spoiled one is next.
        """
        parts = {
            "world model": self.model.parameters,
            "critic": self.behavior.critic_parameters,
            "actor": self.behavior.actor_parameters,
        }
        norms = torch.stack([nn.utils.get_total_norm(weights.values()) for weights in parts.values()])
        if not torch.isfinite(norms).all():
            found = "; ".join(f"{name}: {bad}" for name, weights in parts.items() if (bad := first_bad(weights)))
            since = f"since one of the last {INSPECTED_EVERY} updates; {DEVICE.name}=cpu tells where it began"
            raise Fault(f"{found} is not finite {since}", {})

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the networks."""
        if self.recorded is not None:
            self.inspect()
        return {"model": self.model.state(), "behavior": self.behavior.state(), "experience": self.experience}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.model.restore(state["model"])
        self.behavior.restore(state["behavior"])
        if state["experience"] is not None:
            states, *rest = state["experience"]
            self.experience = Experience(Latent(*states), *rest).to(self.model.model.device)
        if self.recorded is not None:
            self.recorded.forget()


def subset(states: Latent, count: int, generator: torch.Generator) -> Latent:
    """``count`` of the states (T, B, ...), drawn without replacement, as (count, ...)."""
    flat = Latent(states.deter.flatten(0, 1), states.stoch.flatten(0, 1))
    total, device = len(flat.deter), generator.device
    if device.type == "cpu":
        return flat.at(torch.randperm(total, generator=generator)[:count])
    # There a short permutation would be drawn by the host.
    return flat.at(torch.rand(total, device=device, generator=generator).argsort()[:count])


def optimizer_of(parameters: Mapping[str, Tensor], rate: float) -> torch.optim.Adam:
    """Adam on the named parameters, one kernel for all of them; on a GPU one that may be recorded."""
    on_gpu = any(parameter.is_cuda for parameter in parameters.values())
    optimizer = torch.optim.Adam(parameters.values(), rate, eps=1e-6, fused=True, capturable=on_gpu)
    # It would warn of its first steps, which are not recorded yet.
    optimizer._warned_capturable_if_run_uncaptured = True
    return optimizer


def resume(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up an optimiser's ``state_dict()``, be it from another device."""
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["capturable"] = optimizer.defaults["capturable"]


def descend(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    loss: Tensor,
    clip: float,
    name: str,
    inputs: Mapping[str, Tensor],
) -> None:
    """One clipped gradient step on the named ``parameters``; what is not finite is a ``Fault``, as in ``step``."""
    step(optimizer, parameters, *slope_of(loss, parameters), clip, name, inputs)


def slope_of(loss: Tensor, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Gradients]:
    """The loss, detached, and its gradients by the parameters that it depends on.

    Nothing is accumulated anywhere, so several threads may ask for gradients by the same parameters. Each gradient is a
    copy, laid out as its parameter: autograd's may lie otherwise, where a fused optimiser would misread them without a
    word, and one may be that of two parameters, where it would be clipped twice.
    """
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    gradients = {key: gradient for key, gradient in zip(parameters, found, strict=True) if gradient is not None}
    return loss.detach(), {key: torch.empty_like(parameters[key]).copy_(each) for key, each in gradients.items()}


def total(slopes: Sequence[tuple[Tensor, Gradients]]) -> tuple[Tensor, Gradients]:
    """The sum of losses and of their gradients by the same parameters, in this order."""
    (loss, gradients), *others = slopes
    for more, changes in others:
        loss = loss + more
        gradients = {key: gradient + changes[key] for key, gradient in gradients.items()}
    return loss, gradients


def step(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    loss: Tensor,
    gradients: Gradients,
    clip: float | UsualNorm,
    name: str,
    inputs: Mapping[str, Tensor],
) -> None:
    """One step on the named ``parameters`` along the ``gradients`` of ``loss``, cut at a norm, or where it is unusual.

    A loss or gradient that is not finite is a ``Fault`` before anything is changed: it names the part and the first bad
    tensor, be it one of the ``inputs``, a parameter or a gradient, and holds the inputs. While a graph is recorded
    nobody can look: see ``Learner.inspect``.
    """
    norm = nn.utils.get_total_norm(gradients.values())
    if not recording() and not (math.isfinite(float(norm)) and math.isfinite(float(loss))):
        suspects = {**inputs, **parameters, **{f"gradient of {key}": value for key, value in gradients.items()}}
        figures = f"the loss is {float(loss)} and its gradient norm {float(norm)}"
        evidence = {key: value.detach().cpu().numpy() for key, value in inputs.items()}
        raise Fault(f"{name}: {first_bad(suspects) or 'the loss'} is not finite: {figures}", evidence)
    cut(list(gradients.values()), norm, clip.bound(norm) if isinstance(clip, UsualNorm) else clip)
    for key, gradient in gradients.items():
        parameters[key].grad = gradient
    optimizer.step()
    optimizer.zero_grad()


def first_bad(tensors: Mapping[str, Tensor]) -> str | None:
    """Name and index of the first entry that is not finite."""
    for name, tensor in tensors.items():
        bad = ~torch.isfinite(tensor)
        if bad.any():
            return f"{name}{bad.nonzero()[0].tolist()}"
    return None


def tensors_of(record: NamedTuple) -> dict[str, Tensor]:
    """The fields of a named tuple that are tensors."""
    return {name: value for name, value in record._asdict().items() if isinstance(value, Tensor)}


@torch.no_grad()
def filtered_features(model: WorldModel, episode: Episode) -> Tensor:
    """Features (T, F) of a whole episode along the posterior means."""
    observation = torch.from_numpy(episode.observation).unsqueeze(1).to(model.device)
    action = torch.from_numpy(episode.action).unsqueeze(1).to(model.device)
    return model.observe(observation, action, None).latent.feature.squeeze(1)
