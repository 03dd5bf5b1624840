"""The report's pictures: plain data in, a PNG of deterministic bytes out.

Every picture is 8 inches wide with 10-point text: legible when shown 800 pixels wide. The ground is white, so
that dark pages do not swallow the axes. Colours are those of Okabe and Ito, which colour-blind readers can
tell apart, and each agent keeps its own in all pictures.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from telepath.episodes import Array
from telepath.evaluation.agents import BLUE, COLOURS, FAINT, INK, NAMES, VERMILION
from telepath.evaluation.evidence import Reenactments, heldout_of
from telepath.evaluation.scores import correlation, mean_interval
from telepath.files import write_atomically

INFERRED = VERMILION
"""The colour of whatever is inferred and not true."""

ALIKE = 1e-6
"""A divergence that is nothing but rounding, in spreads."""

LEAST_COST = 1e-6
"""A cost that is nothing but rounding: where a logarithmic axis begins."""

WINDOW = 5
"""Episodes of a running mean."""

LEVELS = ("source", "zero_shot", "action_hold", "pada")
"""Whose mean returns are level lines beside the learning curves: those who learn no policy in the target."""

DASH = 2.0
"""Length of a level line's dashes, in widths of the line."""

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def drawing(path: Path, height: float) -> Iterator[Figure]:
    """A figure to draw on, written to ``path`` as a PNG at the end; leaves all settings as they were."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=(8, height), dpi=160, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
        yield figure
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
        write_atomically(path, picture.getvalue())


def thousands(axis: Any) -> None:
    """Label step counts as 0, 5k, 10k."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value else "0"))


def percent(share: float) -> str:
    """0.95 -> '95 %'."""
    return f"{100 * share:g} %"


def edged(linewidth: float) -> list[Any]:
    """A white edge for a line: what is drawn over bars stays visible on all of them."""
    return [withStroke(linewidth=linewidth + 1.8, foreground="white")]


def smooth(values: pd.Series, window: int = WINDOW) -> pd.Series:
    """Centred running mean, over fewer values at the ends."""
    return values.rolling(window, min_periods=1, center=True).mean()


def draw_curve(axes: Axes, curve: pd.DataFrame, agent: str) -> None:
    """Episode returns as dots and their running mean as a line, against steps."""
    colour, name = COLOURS[agent], agent.replace("_", " ")
    mean = f"{name}: mean of {WINDOW} episodes"
    axes.plot(curve["steps"], smooth(curve["return"]), color=colour, label=mean, zorder=2.1)
    axes.plot(curve["steps"], curve["return"], ".", color=colour, alpha=0.4, markersize=5, label=f"{name}: an episode")


def draw_rounds(axes: Axes, diary: pd.DataFrame, rounds: pd.DataFrame, interval: str) -> None:
    """Telepath's rounds: inferred return, true return with its interval, and a star on the shipped one."""
    inferred = (diary["steps"], diary["inferred_return"])
    axes.plot(*inferred, "o--", color=INFERRED, markersize=4, label="Telepath: inferred")
    axes.plot(rounds["steps"], rounds["return"], "o-", color=BLUE, markersize=4, label="Telepath: true")
    axes.fill_between(
        rounds["steps"], rounds["low"], rounds["high"], color=BLUE, alpha=0.18, linewidth=0, label=interval
    )
    shipped = rounds[rounds["round"].isin(diary.loc[diary["shipped"] == 1, "round"])]
    (star,) = axes.plot(shipped["steps"], shipped["return"], "*", color=BLUE, label="Telepath: shipped round", zorder=5)
    star.set(markersize=15, markeredgecolor="white")


def draw_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Mean returns as dashed level lines; the dashes of those that lie on each other take turns."""
    shown = {agent: levels[agent] for agent in LEVELS if agent in levels}
    near = 0.01 * max(map(abs, shown.values()))
    for agent, level in shown.items():
        together = [other for other in shown if abs(shown[other] - level) <= near]
        turn, turns = together.index(agent), max(2, len(together))
        dashes = (-DASH * turn, (DASH, DASH * (turns - 1)))
        axes.axhline(level, color=COLOURS[agent], linestyle=dashes)
        # In the legend all have the same dashes.
        axes.plot([], [], color=COLOURS[agent], linestyle=(0, (DASH, DASH)), label=f"{NAMES[agent]}: {level:.0f}")


def learning_curves(
    source: pd.DataFrame,
    oracle: pd.DataFrame,
    diary: pd.DataFrame,
    rounds: pd.DataFrame,
    levels: Mapping[str, float],
    interval: str,
    path: Path,
) -> None:
    """Left: the source at home. Right: the oracle, and Telepath's rounds with true and inferred return.

    ``levels``: mean return per agent, those of ``LEVELS`` are drawn in the target's panel; ``interval``: what low and
    high of the rounds are.
    """
    with drawing(path, 4.7) as figure:
        home, away = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1.7])
        draw_curve(home, source, "source")
        home.set(title="At home, with reward", xlabel="source steps", ylabel="return of an episode")
        draw_curve(away, oracle, "oracle")
        draw_levels(away, levels)
        draw_rounds(away, diary, rounds, interval)
        away.set(title="In the target", xlabel="target steps")
        for panel in (home, away):
            panel.set_xlim(left=0)
            # What returns there were: an interval of few of them reaches beyond what is possible.
            panel.set_ylim(*limits([source["return"], oracle["return"], rounds["return"], diary["inferred_return"]]))
            thousands(panel.xaxis)
        # The legend of a figure names what all of its panels show.
        figure.legend(loc="outside lower center", ncols=3, fontsize=9.5, columnspacing=1.6)


def limits(returns: Sequence[pd.Series]) -> tuple[float, float]:
    """An axis for all of these, 0 among them, with some room."""
    everything = np.concatenate([[0.0, 1.0], *(series.to_numpy(np.float64) for series in returns)])
    low, high = float(np.nanmin(everything)), float(np.nanmax(everything))
    return low - 0.05 * (high - low), high + 0.08 * (high - low)


def return_bars(returns: pd.DataFrame, trainings: pd.DataFrame, confidence: float, path: Path) -> None:
    """Mean return per agent with its interval, and every episode as a dot; agents from top to bottom.

    ``trainings``: a row each and columns of mean returns for the agents; shown as diamonds where there are several.
    """
    agents = [agent for agent in NAMES if agent in set(returns["agent"])]
    several = trainings if len(trainings) > 1 else trainings.iloc[:0]
    means = several.reindex(columns=agents).astype(np.float64)
    everything = np.concatenate([returns["return"].to_numpy(np.float64), means.to_numpy(np.float64).ravel()])
    least, reach = min(0.0, float(np.nanmin(everything))), max(1.0, float(np.nanmax(everything)))
    with drawing(path, 0.9 + 0.48 * len(agents)) as figure:
        bars = figure.subplots()
        for row, agent in enumerate(agents):
            values = returns.loc[returns["agent"] == agent, "return"].to_numpy(np.float64)
            mean, low, high = mean_interval(values, confidence)
            bars.barh(row, mean, 0.62, color=COLOURS[agent])
            jitter = np.linspace(-0.22, 0.22, len(values))
            (dots,) = bars.plot(values, row + jitter, "o", color="white", alpha=0.75, markersize=3.4)
            dots.set(markeredgecolor=INK, markeredgewidth=0.5)
            (line,) = bars.plot([low, high], [row, row], color=INK, linewidth=2.6, solid_capstyle="butt", zorder=4)
            line.set_path_effects(edged(2.6))
            (diamonds,) = bars.plot(means[agent], np.full(len(means), row), "D", fillstyle="none", color=INK, zorder=5)
            diamonds.set(markersize=8, markeredgewidth=1.6, path_effects=edged(1.6))
            bars.text(reach * 1.04, row, f"{mean:.0f}", va="center", ha="left", fontweight="bold")
        bars.set(yticks=range(len(agents)), yticklabels=[NAMES[agent] for agent in agents], xlabel="true return")
        bars.set(xlim=(least, reach * 1.12), ylim=(len(agents) - 0.45, -0.55))
        words = f"Dots: episodes. Black lines: {percent(confidence)} intervals of the mean."
        if len(means):
            words += f" Diamonds: means of {len(means)} trainings."
        bars.set_title(words, fontweight="normal")
        bars.grid(axis="y", visible=False)


def cem_progress(history: Array, cost: Array, tau: float, path: Path) -> None:
    """Alignment cost over the search's iterations, and how it ended; history (iterations, S), cost (S,)."""
    with drawing(path, 3.4) as figure:
        search, final = figure.subplots(1, 2, sharey=True, width_ratios=[1.3, 1])
        iteration = np.arange(1, len(history) + 1)
        low, quarter, median, three, high = np.quantile(history, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
        search.fill_between(iteration, low, high, color=BLUE, alpha=0.12, linewidth=0, label="5 to 95 %")
        search.fill_between(iteration, quarter, three, color=BLUE, alpha=0.3, linewidth=0, label="quartiles")
        search.plot(iteration, median, "o-", color=BLUE, markersize=4, label="median")
        search.set(title="During the search", xlabel="CEM iteration", ylabel="alignment cost")
        search.set(xticks=iteration, yscale="log")
        share = 100 * (np.arange(len(cost)) + 0.5) / len(cost)
        final.plot(share, np.sort(cost), color=BLUE)
        final.set(title="At its end", xlabel="share of the segments, %", xlim=(0, 100))
        for panel in (search, final):
            panel.axhline(tau, color=INK, linestyle=":", linewidth=1.4, label="counts 1/e")
        search.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        search.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        search.yaxis.set_minor_locator(NullLocator())
        figure.legend(*search.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def telling_segments(cost: Array) -> dict[str, int]:
    """The segments that are shown, by name: of costs (S,) the best, the median and the worst."""
    order = np.argsort(cost, kind="stable").tolist()
    return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


def telling_dimensions(reference: Array, inverse: Array, count: int = 3) -> Array:
    """The dimensions in which a reference (N, D) moves most, on the frame scale: (count,) or fewer."""
    return np.argsort(-(reference.std(0) * inverse), kind="stable")[:count]


def draw_alignment(axes: Axes, reference: tuple[Array, Array], imagined: tuple[Array, Array], pairs: Array) -> None:
    """Two motions, each (seconds, values), and thin lines between what the path (L, 2) matches."""
    before, after = np.stack(reference, 1)[pairs[:, 0]], np.stack(imagined, 1)[pairs[:, 1]]
    axes.add_collection(LineCollection(np.stack([before, after], 1), colors=FAINT, linewidths=0.8, zorder=1))  # type: ignore[arg-type]
    axes.plot(*reference, "o-", color=COLOURS["source"], markersize=3.2, label="source, observed", zorder=2)
    axes.plot(*imagined, "o-", color=BLUE, markersize=2.4, linewidth=1.4, label="target, imagined", zorder=3)


def drawn_alignments(
    found: Reenactments, names: Sequence[str], source_step: float, target_step: float, path: Path
) -> None:
    """Best, median and worst alignment side by side; the most telling dimensions below each other.

    ``source_step`` and ``target_step`` in seconds. Time 0 is the last prefix frame, where both begin.
    """
    chosen = telling_segments(found.cost)
    rows = min(3, found.reference.shape[2])
    with drawing(path, 1.2 + 1.6 * rows) as figure:
        axes = figure.subplots(rows, 3, sharex=True, squeeze=False)
        for column, (title, s) in enumerate(chosen.items()):
            pairs = np.unique(found.path[s], axis=0)
            used = slice(0, int(pairs[:, 1].max()) + 1)
            times = source_step * np.arange(1, found.reference.shape[1] + 1)
            imagined_times = target_step * np.arange(1, found.imagined.shape[1] + 1)
            for row, d in enumerate(telling_dimensions(found.reference[s], found.inverse, rows)):
                panel = axes[row, column]
                draw_alignment(
                    panel,
                    (times, found.reference[s, :, d]),
                    (imagined_times[used], found.imagined[s, used, d]),
                    pairs,
                )
                panel.text(0.02, 1.0, names[d], transform=panel.transAxes, va="bottom", fontsize=9)
            axes[0, column].set_title(f"{title}: cost {found.cost[s]:.2g}", pad=18)
            axes[-1, column].set_xlabel("seconds")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def label_origins(found: Reenactments, null: Array, source_step: float, path: Path) -> None:
    """Left: alignment costs beside the null's (K,), what target trajectories cost. Right: where segments come from.

    ``source_step`` in seconds. Episodes are numbered as the source collected them, its first attempts first.
    """
    with drawing(path, 3.6) as figure:
        costs, places = figure.subplots(1, 2, width_ratios=[1.15, 1])
        everything = np.maximum(np.concatenate([found.cost, null]), LEAST_COST)
        edges = np.geomspace(everything.min() / 1.1, everything.max() * 1.1, 26)
        for sample, colour, label in (
            (null, FAINT, "target pieces, re-enacted with their own actions"),
            (found.cost, BLUE, "source segments, re-enacted by search"),
        ):
            share = np.full(len(sample), 100 / len(sample))
            shown = np.maximum(sample, LEAST_COST)
            costs.hist(shown, edges, weights=share, color=colour, alpha=0.65, label=label)
        costs.axvline(found.tau, color=INK, linestyle=":", linewidth=1.4, label="counts 1/e")
        costs.set(xscale="log", xlabel="alignment cost", ylabel="share, %", title="What they cost")
        costs.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        costs.xaxis.set_minor_locator(NullLocator())
        close = found.cost < found.tau
        for chosen, marker, colour, label in (
            (close, "o", BLUE, "below that cost"),
            (~close, "X", VERMILION, "above it"),
        ):
            episode, record = found.origin[chosen].T
            places.scatter(source_step * record, episode, 34, color=colour, marker=marker, alpha=0.8, label=label)
        places.set(xlabel="seconds into the source episode", ylabel="source episode", title="Where they come from")
        places.set_xlim(left=0)
        places.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.legend(loc="outside lower center", ncols=2)


def shades(colour: str) -> LinearSegmentedColormap:
    """From a pale tint to a colour."""
    full = np.array(mpl.colors.to_rgb(colour))
    return LinearSegmentedColormap.from_list(colour, np.stack([0.7 + 0.3 * full, full]))


def reward_scatter(axes: Axes, heldout: Mapping[str, Array], policy: str, limits: tuple[float, float]) -> None:
    """Inferred against true reward of one policy's records, darker where there are more.

    Where the true reward never changes there is nothing to compare: words then say what was inferred.
    """
    true, inferred = heldout["true"], heldout["inferred"]
    if np.ptp(true) == 0:
        axes.set_axis_off()
        axes.set_title(NAMES[policy])
        words = (
            f"The true reward is\nalways {true[0]:.2g}.\n\n"
            f"Inferred: {inferred.mean():.2f} on average,\nat most {inferred.max():.2f}."
        )
        axes.text(0, 0.95, words, va="top", transform=axes.transAxes)
        return
    low, high = limits
    margin = 0.06 * (high - low)
    extent = (low - margin, high + margin) * 2
    axes.plot(limits, limits, color=INK, linewidth=1, linestyle=":")
    style: dict[str, Any] = {"cmap": shades(COLOURS[policy]), "edgecolors": COLOURS[policy], "linewidths": 0.5}
    axes.hexbin(true, inferred, gridsize=22, extent=extent, bins="log", mincnt=1, **style)
    r = correlation(true, inferred)
    axes.set_title(f"{NAMES[policy]}: r {'undefined' if r is None else f'= {r:.2f}'}")
    axes.set(xlabel="true reward a frame", ylabel="inferred", xlim=extent[:2], ylim=extent[:2], aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def rewards(heldout: dict[str, Array], policies: Sequence[str], episode: int, step: float, path: Path) -> None:
    """Inferred against true reward of every policy, and over the first ``episode`` records of the last one.

    ``step``: seconds of a target step.
    """
    everything = np.concatenate([heldout["true"], heldout["inferred"]])
    limits = (min(0.0, float(everything.min())), max(float(everything.max()), 1e-3))
    with drawing(path, 5.4) as figure:
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.25, 1])[:, 0]
        axes = top.subplots(1, len(policies), squeeze=False)[0]
        for panel, policy in zip(axes, policies, strict=True):
            reward_scatter(panel, heldout_of(heldout, policy), policy, limits)
        shown = heldout_of(heldout, policies[-1])
        strip = bottom.subplots()
        reward_strip(strip, {name: array[:episode] for name, array in shown.items()}, step)
        strip.set_title(f"One episode of {NAMES[policies[-1]]}", pad=20)


def reward_strip(axes: Axes, episode: Mapping[str, Array], step: float) -> None:
    """True, inferred and predicted reward over one episode; ``step`` in seconds."""
    seconds = step * np.arange(1, len(episode["true"]) + 1)
    axes.fill_between(seconds, episode["true"], color=FAINT, alpha=0.5, linewidth=0, step="pre", label="true")
    axes.plot(seconds, episode["inferred"], color=INFERRED, linewidth=1.2, label="inferred by matching")
    axes.plot(seconds, episode["predicted"], color=BLUE, linewidth=1.2, label="predicted by the reward model")
    axes.set(xlabel="seconds", ylabel="reward a frame", xlim=(0, seconds[-1]))
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.97), ncols=3, fontsize=9, borderpad=0)


def induced_gap(gap: pd.DataFrame, path: Path) -> None:
    """How far target and source drift apart under the same actions."""
    with drawing(path, 2.7) as figure:
        panel = figure.subplots()
        panel.axhline(1, color=INK, linestyle=":", linewidth=1.4)
        words = "as far apart as the source's own spread"
        panel.annotate(words, (0, 1), (4, 4), textcoords="offset points", fontsize=9)
        panel.plot(gap["seconds"], gap["divergence"], "o-", color=VERMILION, markersize=4, clip_on=False)
        if gap["divergence"].max() < ALIKE:
            panel.annotate(
                "no divergence: the two move exactly alike",
                (0, 0),
                (4, 8),
                textcoords="offset points",
                color=VERMILION,
            )
        panel.set(xlabel="seconds under the same actions", ylabel="divergence, spreads")
        panel.set(xlim=(0, gap["seconds"].max()), ylim=(0, max(1.25, 1.1 * gap["divergence"].max())))
