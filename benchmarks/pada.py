"""PADA's published result on a half-cheetah, its shape: true return against target steps.

    python -m benchmarks.pada [--gaps "mass 1.5" ...] [--seeds 0 ...] [--steps 15000] [--again]
                              [--out reports/benchmarks/pada]

A source agent is trained on dm_control's cheetah-run with the settings of params.yaml and kept in data/benchmarks. PADA
(``rivals.pada``) adapts it to each gap, and every few episodes the adapted policy is judged on fresh episodes with the
true reward, which PADA does not see. Each gap and seed leaves a curve; one that is already there, of the same settings
and steps, is not run again unless asked for. Writes table.csv and curves.png of every curve in the folder; what the
exact deviation reaches, if ``benchmarks.pada_exact`` has left it there, is drawn too.

Known from the page of the paper (Song et al. 2020): with 1.5 times the mass about 3800 of about 4000, reached by about
13000 steps; with half the gravity 2500 to 3000. Drawn beside ours, as shares of the source's own return at home, since
returns are not to be compared:

- dm_control's cheetah is another body and pays at most 1 a frame, in full from 10 m/s on; gym's pays its speed, without
  a bound, less a cost of control.
- A step lasts the task's action repeat times 0.01 s, and an episode 10 s; gym's last 0.05 s and 50 s.
- The source's policy is our recurrent Dreamer, and PADA is ours: what differs is listed in telepath/baselines/pada.py.
- Which motor noise the paper means is not known here; ours is added to the actions, with standard deviation 0.2.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.grid import commit
from benchmarks.sources import source_training
from telepath.alignment.rates import Rates
from telepath.baselines.pada import Pada, adapted_policy
from telepath.baselines.rival import Allowed, episode_budget
from telepath.config import Params, load
from telepath.dreamer.agent import Agent
from telepath.envs.gaps import target_environment
from telepath.envs.rollout import Policy
from telepath.envs.suite import Environment
from telepath.episodes import Episode, load_episodes, save_episodes
from telepath.evaluation.judge import judge
from telepath.files import write_atomically
from telepath.rival_settings import PadaSettings
from telepath.runtime.device import limit_threads
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch
from telepath.settings import GapSettings

TASK = "cheetah-run"
GAPS: dict[str, dict[str, float]] = {
    "mass 1.5": {"mass": 1.5},
    "gravity 0.5": {"gravity": 0.5},
    "motor noise": {"action_noise": 0.2},
}
PUBLISHED = {"mass 1.5": (13000, 0.95, 0.95), "gravity 0.5": (13000, 0.62, 0.75)}
"""Target steps, and the share of the source's return that is published for about so many: from, to."""

EVERY, EPISODES = 5, 10
"""Episodes of the target between two judgements, and episodes of each."""

GOAL = 0.8
"""Share of the source's return that counts as adapted."""


def digest(settings: object) -> str:
    """Twelve hexadecimal digits by which settings are known."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def source_settings(params: Params) -> str:
    """By what a source agent's settings are known."""
    parts = (params.tasks[TASK], params.source, params.dreamer)
    return digest([part.model_dump(mode="json") for part in parts])


def curve_settings(params: Params, steps: int) -> str:
    """By what a curve's settings are known."""
    return digest([source_settings(params), params.rivals.pada.model_dump(mode="json"), steps])


def is_there(path: Path, settings: str) -> bool:
    """Whether a curve of these settings lies there."""
    return path.exists() and set(pd.read_csv(path)["settings"]) == {settings}


def source_agent(params: Params, seed: int, folder: Path) -> tuple[Agent, list[Episode]]:
    """The agent of the source and its episodes: trained as ``train_source`` does, or read from ``folder``.

    The files' names tell the settings apart.
    """
    name = f"{source_settings(params)}-{seed}"
    agent_file, episodes_file = folder / f"agent-{name}.safetensors", folder / f"episodes-{name}.npz"
    if not agent_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        training = source_training(params, TASK, seed)
        with (
            Progress(f"source {seed}", training.update_budget, "updates") as progress,
            Scratch(folder / f"scratch-{name}") as scratch,
        ):
            trained = training.run(progress, scratch)
            save_episodes(episodes_file, trained.episodes)
            trained.agent.save(agent_file)
            scratch.clear()
    return Agent.load(agent_file, TASK), load_episodes(episodes_file, rewarded=True)


def judging_targets(gap: GapSettings, seed: int, count: int) -> list[Environment]:
    """Targets with their reward, for ``mean_return`` and nobody else."""
    return [target_environment(TASK, gap, seed, rewarded=True) for _ in range(count)]


def mean_return(environments: list[Environment], policy: Policy, seed: int) -> float:
    """The mean true return over an episode in each."""
    return float(np.mean([episode.ret for episode in judge(environments, policy, seed)]))


def measure(
    settings: PadaSettings,
    agent: Agent,
    episodes: list[Episode],
    gap: GapSettings,
    source_repeat: int,
    steps: int,
    seed: int,
) -> pd.DataFrame:
    """steps, return, source, deviation: a row a judgement; row 0 is the source's agent, unadapted.

    ``source``: its return at home; ``steps``: target steps, in whole episodes.
    """
    home = [Environment(TASK, source_repeat, seed) for _ in range(EPISODES)]
    fresh = judging_targets(gap, seed, EPISODES)
    target = target_environment(TASK, gap, seed, rewarded=False)
    rates = Rates(source_repeat, gap.action_repeat, target.frame_seconds)
    simulator = Environment(TASK, gap.action_repeat, seed, rewarded=False)
    pada = Pada(Allowed(agent, simulator, episodes, target, rates, steps, seed), settings)
    source = mean_return(home, agent.policy(), seed)
    rows = [(0, mean_return(fresh, agent.policy(), seed), source, np.nan)]
    taken, budget = 0, episode_budget(target, steps)
    with Progress("pada", budget * target.episode_steps, "steps") as progress:
        for number in range(budget):
            count, figures = pada.episode(number)
            taken += count
            if (number + 1) % EVERY == 0 or number + 1 == budget:
                score = mean_return(fresh, adapted_policy(pada.artefact(), Path(TASK)), seed)
                rows.append((taken, score, source, figures["deviation"]))
            progress.advance(count, **figures, last=rows[-1][1])
    return pd.DataFrame(rows, columns=["steps", "return", "source", "deviation"])


def curves(folder: Path) -> dict[tuple[str, int], pd.DataFrame]:
    """(gap, seed) -> curve, of every curve in ``folder``."""
    found = {}
    for gap in GAPS:
        for path in sorted(folder.glob(f"{gap.replace(' ', '-')}__*.csv")):
            found[gap, int(path.stem.rpartition("__")[2])] = pd.read_csv(path)
    return found


def exact_shares(folder: Path) -> dict[str, float]:
    """gap -> share of the source's return with the exact deviation, as ``benchmarks.pada_exact`` left it there."""
    path = folder / "exact.csv"
    if not path.exists():
        return {}
    table = pd.read_csv(path)
    return dict(table[table["measure"] == "spread"].groupby("gap")["exact"].mean())


def summary(found: dict[tuple[str, int], pd.DataFrame]) -> pd.DataFrame:
    """One row a curve: where it began and ended, as shares of the source's return, and when it first had adapted."""
    rows = []
    for (gap, seed), curve in found.items():
        share = curve["return"] / curve["source"]
        reached = curve["steps"][share >= GOAL]
        rows.append(
            {
                "gap": gap,
                "seed": seed,
                "source": round(float(curve["source"].iloc[0])),
                "unadapted": round(float(share.iloc[0]), 2),
                "adapted": round(float(share.iloc[-1]), 2),
                "steps": int(curve["steps"].iloc[-1]),
                f"steps to {GOAL}": int(reached.iloc[0]) if len(reached) else None,
                "published": " to ".join(map(str, dict.fromkeys(PUBLISHED[gap][1:]))) if gap in PUBLISHED else None,
                "code": curve["code"].iloc[0],
            }
        )
    return pd.DataFrame(rows).astype({f"steps to {GOAL}": "Int64"})


def draw(found: dict[tuple[str, int], pd.DataFrame], exact: dict[str, float], path: Path) -> None:
    """Share of the source's return against target steps, a panel a gap and a line a seed; ``exact``: levels of gaps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    gaps = [gap for gap in GAPS if any(gap == name for name, _ in found)]
    figure, axes = plt.subplots(1, len(gaps), figsize=(4 * len(gaps), 3.2), squeeze=False, layout="constrained")
    for panel, gap in zip(axes[0], gaps, strict=True):
        for (name, seed), curve in found.items():
            if name == gap:
                panel.plot(curve["steps"], curve["return"] / curve["source"], label=f"seed {seed}")
        panel.axhline(GOAL, color="0.6", linestyle=":")
        if gap in exact:
            panel.axhline(exact[gap], color="0.3", linestyle="--", linewidth=1, label="exact deviation")
        if gap in PUBLISHED:
            steps, low, high = PUBLISHED[gap]
            panel.plot([steps, steps], [low, high], "_-", color="0.3", label="published, about")
        panel.set(title=f"{TASK}, {gap}", xlabel="target steps", ylim=(0, 1.1))
        panel.legend(frameon=False)
    axes[0, 0].set_ylabel("return / source's at home")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def command_line(description: str, gaps: list[str]) -> argparse.ArgumentParser:
    """What every run on these gaps can be asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--gaps", nargs="+", choices=gaps, default=gaps)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks/pada"))
    parser.add_argument("--keep", type=Path, default=Path("data/benchmarks/pada"), help="where source agents are kept")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, then print, write and draw what is there."""
    parser = command_line("PADA on a half-cheetah: return against target steps.", list(GAPS))
    parser.add_argument("--steps", type=int, default=15000)
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args(arguments)
    params = load(Path("params.yaml"))
    limit_threads()
    options.out.mkdir(parents=True, exist_ok=True)
    repeat = params.tasks[TASK].action_repeat
    for seed in options.seeds:
        for name in options.gaps:
            path = options.out / f"{name.replace(' ', '-')}__{seed}.csv"
            known_by = curve_settings(params, options.steps)
            if options.again or not is_there(path, known_by):
                agent, episodes = source_agent(params, seed, options.keep)
                gap = GapSettings(action_repeat=repeat, **GAPS[name])  # type: ignore[arg-type]
                curve = measure(params.rivals.pada, agent, episodes, gap, repeat, options.steps, seed)
                write_atomically(path, curve.assign(settings=known_by, code=commit()).to_csv(index=False))
    found = curves(options.out)
    table = summary(found)
    write_atomically(options.out / "table.csv", table.to_csv(index=False))
    draw(found, exact_shares(options.out), options.out / "curves.png")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
