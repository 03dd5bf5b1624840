"""GAIfO: generative adversarial imitation from observation (Torabi, Warnell and Stone 2018, algorithm 1).

A discriminator D(o, o') tells the source's transitions (1) from the target's (0),

    max_D  E_source[log D(o, o')] + E_target[log(1 - D(o, o'))],

and a transition of the target is paid for passing as one of the source's, r = -log(1 - D(o, o')). As the policy gets
better the discriminator has to look closer. Where the two cannot be told apart, D = 1/2, is the best that a target can
do: there r = log 2 is put at the rate that the source's best episodes were paid, r = 0 at that of its worst, with a
straight line through both.

Transitions are those over one step of the slower side, so that nothing is interpolated: straight lines would give
the source away.

Different from the paper: the discriminator is fitted afresh after every round, on all transitions of the target so far
(off-policy, as in DAC: Kostrikov et al. 2019), and all labels are made anew; it is kept smooth by a penalty on its
gradient at the data (Mescheder, Geiger and Nowozin 2018), or it would be certain everywhere and pay nothing. So the
inferred returns of two rounds are measured by two discriminators, and which rounds come to the final judgement is
decided on uncertain ground; the judgement itself has one.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from telepath.alignment.labeller import ReplayLabels
from telepath.alignment.rates import Rates
from telepath.alignment.segments import Scale
from telepath.baselines.likeness import Standing
from telepath.baselines.regression import GRAD_CLIP, Regressor
from telepath.dreamer.learner import descend
from telepath.episodes import Array, Episode
from telepath.rival_settings import DiscriminatorSettings


def moves(frames: Array, stride: int) -> Tensor:
    """Transitions over ``stride`` records of scaled frames (T, D): where from, and the change, (T - stride, 2D)."""
    track = torch.from_numpy(frames)
    return torch.cat([track[:-stride], track[stride:] - track[:-stride]], 1)


def fit_discriminator(genuine: Tensor, own: Tensor, settings: DiscriminatorSettings, seed: int) -> Regressor:
    """The logit of D on transitions: ``genuine`` (n, k) of the source against ``own`` (m, k) of the target.

    A function of its arguments: no other random stream is touched.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Regressor(genuine.shape[1], 1, settings.hidden)
    both = torch.cat([genuine, own])
    net.fit_units(both, torch.ones(len(both), 1))
    parameters = dict(net.named_parameters())
    optimizer = torch.optim.Adam(parameters.values(), settings.lr, eps=1e-6, fused=True)
    generator = torch.Generator().manual_seed(seed)
    half = settings.batch // 2
    answer = torch.cat([torch.ones(half), torch.zeros(half)])
    for _ in range(settings.updates):
        shown = [lot[torch.randint(len(lot), (half,), generator=generator)] for lot in (genuine, own)]
        inputs = ((torch.cat(shown) - net.center) / net.spread).requires_grad_()
        logit = net.net(inputs).squeeze(1)
        (slope,) = torch.autograd.grad(logit.sum(), inputs, create_graph=True)
        loss = F.binary_cross_entropy_with_logits(logit, answer) + settings.penalty * slope.square().sum(1).mean()
        descend(optimizer, parameters, loss, GRAD_CLIP, "discriminator", {"transitions": inputs.detach()})
    return net


class DiscriminatorLabels:
    """A labeller that learns to tell the source's best episodes from all that the target has done."""

    def __init__(
        self,
        standing: Standing,
        scale: Scale,
        rates: Rates,
        exploration: list[Episode],
        settings: DiscriminatorSettings,
        seed: int,
    ):
        self.standing, self.rate, self.scale = standing, standing.rate, scale
        self.settings, self.seed = settings, seed
        self.stride = max(1, round(rates.ratio))
        stride = max(1, round(1 / rates.ratio))
        self.genuine = torch.cat([moves(scale(episode.observation), stride) for episode in standing.best])
        self.fit(exploration)

    def fit(self, episodes: list[Episode]) -> None:
        """Fit the discriminator to everything that the target has done."""
        own = torch.cat([self.transitions(episode) for episode in episodes if len(episode) > self.stride])
        self.net = fit_discriminator(self.genuine, own, self.settings, self.seed)

    def transitions(self, episode: Episode) -> Tensor:
        """Those of a target episode, over one step of the slower side."""
        return moves(self.scale(episode.observation), self.stride)

    @torch.no_grad()
    def label(self, episode: Episode) -> ReplayLabels:
        """Label every record by the transition that led to it; the first ones, to which none leads, as the first that
        has one. An episode too short for any is worth nothing.
        """
        if len(episode) <= self.stride:
            return self.standing.labels(np.zeros(len(episode)))
        part = F.softplus(self.net(self.transitions(episode)).squeeze(1)) / np.log(2)
        return self.standing.labels(np.concatenate([np.full(self.stride, part[0]), part.numpy()]))

    def revise(self, episodes: list[Episode], labels: list[Array]) -> list[Array]:
        """Fit afresh and label everything anew."""
        self.fit(episodes)
        return [self.label(episode).rate for episode in episodes]
