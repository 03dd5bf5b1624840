"""Evidence as a real run would leave it, made up."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from telepath.episodes import Array
from telepath.evaluation.evidence import Cost, Evidence, Film, Reenactments

LEVELS = {"source": 880, "random": 40, "zero_shot": 12, "action_hold": 730, "pada": 720, "telepath": 850, "oracle": 905}
NAMES = ["position[0]", "position[1]", "position[2]", "position[3]"] + [f"velocity[{i}]" for i in range(4)]


def curve(rng: np.random.Generator, steps: int, every: int, level: float) -> pd.DataFrame:
    at = np.arange(every, steps + 1, every)
    learned = level / (1 + np.exp(-(at / steps - 0.4) * 14))
    noise = rng.normal(0, level * 0.12 + 5, len(at))
    paid = np.clip(learned + noise, 0, level * 1.04)
    return pd.DataFrame({"steps": at, "updates": at * 4 // 10, "return": paid, "divergences": 0})


def returns(rng: np.random.Generator, levels: dict[str, float]) -> pd.DataFrame:
    rows = []
    for agent, level in levels.items():
        spread = 0.03 if level > 500 else 0.8
        values = np.clip(level + rng.normal(0, level * spread + 1, 20), 0, 1000)
        rows += [(agent, number, value, 0) for number, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["agent", "episode", "return", "divergences"])


def both_rounds(rng: np.random.Generator, final: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    number = np.arange(10)
    true = np.clip(final / (1 + np.exp(-(number - 3.0))) + rng.normal(0, 40, 10), 0, 1000)
    inferred = np.clip(0.9 * true + rng.normal(0, 25, 10) + 30, 0, 1000)
    steps = 6000 + 900 * number
    shipped = int(inferred.argmax())
    finals = {n: inferred[n] + rng.normal(0, 10) for n in np.argsort(-inferred)[:3]}
    finals[shipped] = max(finals.values()) + 1
    diary = pd.DataFrame(
        {
            "round": number,
            "steps": steps,
            "updates": 300 + 135 * number,
            "inferred_return": inferred,
            "score": inferred,
            "confidence": np.linspace(0.5, 0.85, 10),
            "alignment_cost": np.linspace(0.12, 0.05, 10),
            "reward_loss": np.linspace(0.1, 0.02, 10),
            "belief_loss": np.linspace(3.0, 1.0, 10),
            "final_score": [finals.get(n, np.nan) for n in number],
            "shipped": (number == shipped).astype(int),
        }
    )
    rounds = pd.DataFrame(
        {
            "round": number,
            "steps": steps,
            "return": true,
            "low": np.maximum(true - 45, 0),
            "high": np.minimum(true + 35, 1000),
            "divergences": 0,
        }
    )
    return diary, rounds


def heldout(rng: np.random.Generator, noise: float) -> dict[str, Array]:
    """Sparse reward, three episodes of 333 steps per policy: paid late, early, or now and then."""
    parts: dict[str, list[Array]] = {name: [] for name in ("true", "inferred", "predicted", "policy")}
    for policy, start in enumerate((320, 300, 70)):
        for _ in range(3):
            true = (np.arange(333) > start + rng.integers(-20, 20)).astype(np.float32)
            soft = np.convolve(np.pad(true, 6, mode="edge"), np.ones(13) / 13, mode="valid")
            parts["true"].append(true)
            parts["inferred"].append(np.clip(0.9 * soft + rng.normal(0, noise, 333), 0, 1))
            parts["predicted"].append(0.95 * soft + rng.normal(0, noise / 2, 333))
            parts["policy"].append(np.full(333, policy))
    arrays = {name: np.concatenate(values).astype(np.float32) for name, values in parts.items()}
    arrays["policy"] = arrays["policy"].astype(np.int32)
    return arrays | {"confidence": np.clip(arrays["inferred"] + 0.3, 0, 1)}


def reenactments(rng: np.random.Generator, segments: int = 24, n: int = 12, m: int = 30) -> Reenactments:
    """Decaying swings; the imagined ones at twice the rate, ever worse over the segments."""
    phase = rng.uniform(0, 6, (segments, 1, 8))
    pace = rng.uniform(0.3, 0.6, (segments, 1, 8))
    size = rng.uniform(0.05, 1.0, (segments, 1, 8)) * np.array([1] * 4 + [8] * 4)
    reference = size * np.sin(phase + pace * np.arange(1, n + 1)[None, :, None])
    badness = np.linspace(0.02, 0.5, segments)[:, None, None]
    wander = rng.normal(0, 1, (segments, m, 8)).cumsum(1) / 4
    imagined = size * (np.sin(phase + pace * np.arange(1, m + 1)[None, :, None] / 2.1) + badness * wander)
    pairs = np.minimum(np.arange(n + m) // 2, n - 1)
    ends = np.minimum(np.arange(n + m), 2 * n)
    path = np.repeat(np.stack([pairs, ends], 1)[None], segments, 0).astype(np.int32)
    cost = (badness[:, 0, 0] ** 2 + 0.01).astype(np.float32)
    falling = 1 + 6 * np.exp(-np.arange(6) / 1.3)
    return Reenactments(
        reference.astype(np.float32),
        imagined.astype(np.float32),
        path,
        cost,
        np.minimum.accumulate(np.outer(falling, cost) * rng.uniform(0.9, 1.1, (6, segments))),
        (1 / (np.sqrt(8) * np.array([0.7] * 4 + [5.0] * 4))).astype(np.float32),
        0.04,
        np.stack([np.arange(segments) // 4, 5 + 7 * np.arange(segments)], 1),
    )


def fake_evidence(
    seed: int = 0, levels: dict[str, float] | None = None, noise: float = 0.06, divergence: float = 0.0
) -> Evidence:
    rng = np.random.default_rng(seed)
    levels = dict(levels or LEVELS)
    diary, rounds = both_rounds(rng, levels["telepath"])
    seconds = np.arange(0, 2.05, 0.12)
    return Evidence(
        curve(rng, 5000, 167, levels["source"]),
        curve(rng, 15000, 333, levels["oracle"]),
        pd.DataFrame({"episode": np.arange(44), "steps": 334 * np.arange(1, 45), "divergences": 0}),
        diary,
        returns(rng, levels),
        rounds,
        heldout(rng, noise),
        pd.DataFrame({"seconds": seconds, "divergence": divergence * (1 - np.exp(-seconds))}),
        np.geomspace(0.01, 0.4, 16),
        {
            "source_steps": 5010,
            "target_steps": 14985,
            "source_frames": 30060,
            "target_frames": 44955,
            "observation_names": NAMES,
            "frame_seconds": 0.02,
            "target_divergences": 0,
        },
        reenactments(rng),
        Film("no OpenGL without a screen", [], 0, 0.0, None),
        {"collect_source": Cost(0.25, 300.0), "train_source": Cost(3.5, 640.0), "train_oracle": Cost(2.75, 610.0)},
        pd.DataFrame(columns=["seed_source", "seed_target", "commit", *levels]),
    )


@pytest.fixture(scope="session")
def make_evidence() -> Callable[..., Evidence]:
    return fake_evidence
