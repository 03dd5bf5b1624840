import numpy as np
import torch

from telepath.alignment.belief import BeliefLearner, BeliefNet, Subsets, initial_latents, random_subsets
from telepath.config import Params
from telepath.dreamer.networks import Gaussian
from telepath.dreamer.rssm import WorldModel
from telepath.settings import DreamerSettings

STEP = 0.06


def draw(params: Params, count: int = 500) -> Subsets:
    # Observation = [row, t], feature = 100 row + t: every number says where it was taken from.
    t, row = torch.meshgrid(torch.arange(32.0), torch.arange(16.0), indexing="ij")
    observation = torch.stack([row, t], -1)
    feature = (100 * row + t).unsqueeze(-1)
    return random_subsets(observation, feature, STEP, params.belief, count, np.random.default_rng(0))


def test_subsets_are_right_aligned_ordered_pieces_of_one_trajectory(params: Params) -> None:
    subsets = draw(params)
    observation, known = subsets.observation.numpy(), subsets.known.numpy().astype(bool)
    last = observation[-1]
    assert known[-1].all()
    assert (np.diff(known.astype(int), axis=0) >= 0).all(), "padding stands in front, nowhere else"
    assert (subsets.feature[:, 0].numpy() == 100 * last[:, 0] + last[:, 1]).all(), "the latent is the last frame's"
    for k in range(len(known) - 1):
        both = known[k]
        assert (observation[k, both, 0] == last[both, 0]).all()
        skip = observation[k + 1, both, 1] - observation[k, both, 1]
        assert skip.min() >= 1
        assert skip.max() <= params.belief.max_skip
        np.testing.assert_allclose(subsets.seconds.numpy()[k + 1, both], skip * STEP, rtol=1e-5)
    assert (subsets.observation.numpy()[~known] == 0).all()
    assert (subsets.seconds.numpy()[~known] == 0).all()


def test_lengths_and_skips_vary(params: Params) -> None:
    subsets = draw(params)
    lengths = subsets.known.sum(0).numpy()
    assert set(lengths) == set(range(1, params.belief.frames + 1))
    skips = np.diff(subsets.observation.numpy()[-3:, :, 1], axis=0)[:, subsets.known.numpy()[-3] == 1]
    regular = (skips[0] == skips[1]).mean()
    assert 0.4 < regular < 0.9, "about half of the subsets keep one skip throughout"


def test_padding_does_not_change_the_belief(params: Params) -> None:
    torch.manual_seed(0)
    net = BeliefNet(2, 3, params.belief)
    frames = torch.randn(4, 1, 2)
    seconds = torch.full((4, 1), STEP)
    seconds[0] = 0
    full = net(frames, seconds, torch.ones(4, 1))
    wrong = frames.clone()
    wrong[0] = 7.0
    known = torch.ones(4, 1)
    known[0] = 0
    padded, other = net(frames, seconds, known), net(wrong, seconds, known)
    torch.testing.assert_close(padded.mean, other.mean)
    assert not torch.allclose(padded.mean, full.mean)


def test_the_net_learns_the_latent_and_leaves_the_world_model_alone(params: Params, small: DreamerSettings) -> None:
    torch.manual_seed(0)
    model = WorldModel(2, 1, small)
    net = BeliefNet(2, model.feature_dim, params.belief)
    learner = BeliefLearner(net, model, params.belief, STEP, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn(32, 16, 2, generator=generator).cumsum(0)
    with torch.no_grad():
        latent = model.observe(observation, torch.zeros(32, 16, 1), None).latent
    before = [p.clone() for p in model.parameters()]
    first = learner.update(observation, latent)["belief"]
    for _ in range(60):
        last = learner.update(observation, latent)["belief"]
    assert last < first - 0.3
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_initial_latents_are_those_whose_decoded_frame_fits_and_can_be_drawn_again(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    model = WorldModel(2, 1, small)
    rng = np.random.default_rng(0)
    belief = Gaussian(torch.zeros(3, model.feature_dim), torch.full((3, model.feature_dim), 0.5))
    noise = rng.standard_normal((3, 40, model.feature_dim)).astype(np.float32)
    prefix = rng.standard_normal((3, 4, 2)).astype(np.float32)

    def error(latents: torch.Tensor) -> torch.Tensor:
        return (model.decode(latents) - torch.from_numpy(prefix[:, -1:])).square().sum(-1)

    latent, kept = initial_latents(belief, noise, model, error, 5)
    everything, _ = initial_latents(belief, noise, model, error, 40)
    torch.testing.assert_close(error(latent.feature), error(everything.feature).sort(1).values[:, :5])
    again, _ = initial_latents(belief, kept[:, :1], model, error, 1)
    torch.testing.assert_close(again.feature[:, 0], latent.feature[:, 0])
