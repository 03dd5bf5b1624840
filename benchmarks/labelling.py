"""What labelling costs: time against other ways to do the same, time and memory against the number of segments.

    python -m benchmarks.labelling [--segments 256] [--iterations 8] [--candidates 512] [--steps 24]
                                   [--scale 64 256 1024 4096] [--out reports/benchmarks]

A world model of the walker's size (24 observations, 6 actions, untrained: speed does not depend on its weights), as
many target as source steps, no band, so that everybody fills the same tables. The methods do the same search, all on
one core:

    telepath      as the label stage does it, chunk by chunk
    torch loop    one segment after the other, all of its candidates at once: plain torch rollouts, which are the
                  world model's modules called step by step, warped by a double loop over the table's cells in torch
                  (``benchmarks.plain``). The original's formulation
    a rival       the same rollouts, warped by the one of ``benchmarks.warpers`` that is fastest at this shape. Its
                  paths end where the candidate ends, not anywhere; what it takes to bring the rollouts into its layout
                  counts

The two others are measured on a few segments in between and scaled; all three in processor time, so that other work on
the machine slows them alike. ``telepath, 2 processes`` is the whole with ``TELEPATH_EXECUTOR=process:2``, the
processes' start included, by the clock on the wall: it needs an idle machine.

*sgemm share*: the rollouts' rate over that of numpy's product of two 512 x 512 float32 matrices, both of them means:
all multiplications and additions in the rollouts' matrix products over all seconds of the rollouts, with everything
that is done in them, and the same of two products behind every lot of rollouts. So numerator and denominator are of the
same core and the same minutes, and a machine whose speed changes changes both. The products' own seconds count
nowhere else. *of the best*: the same mean over the rate of the fastest single product of the whole run, which a machine
with other guests reaches now and then and holds for milliseconds. Of plain rollouts what nobody asks for, the other
half of the prior's output, is computed and does not count.

Time and memory over the number of segments are those of a smaller search (2 iterations, 32 candidates), each in a
process of its own. Writes labelling.csv, labelling-scale.csv and labelling.png.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.dtw import race, show  # noqa: E402
from benchmarks.plain import OURS, Warping, Way, going, torch_loop  # noqa: E402
from benchmarks.warpers import RIVALS, Rival, costs  # noqa: E402
from telepath.alignment.belief import BeliefNet  # noqa: E402
from telepath.alignment.rates import Rates  # noqa: E402
from telepath.alignment.reenact import Alignments, Reenactor  # noqa: E402
from telepath.alignment.segments import FrameScale, Segments  # noqa: E402
from telepath.config import load  # noqa: E402
from telepath.dreamer.rssm import WorldModel  # noqa: E402
from telepath.runtime.device import keep_memory, usable_cpus  # noqa: E402
from telepath.runtime.environment import Executor  # noqa: E402
from telepath.runtime.executor import each  # noqa: E402
from telepath.transfer.labels import HERE, align_chunk, chunk_indices  # noqa: E402

OBSERVATION, ACTION, PRODUCT = 24, 6, 512
PRODUCT_OPERATIONS = 2 * PRODUCT**3
SEARCH = {"iterations": 2, "candidates": 32, "steps": 24}
"""Of the runs over the number of segments."""


@dataclass
class Work:
    """Segments to label, and what it takes."""

    reenactor: Reenactor
    segments: Segments
    seeds: np.ndarray

    @staticmethod
    def make(segments: int, iterations: int, candidates: int, steps: int) -> "Work":
        """``candidates`` a segment and iteration, shared out between its initial latents."""
        params = load(Path("params.yaml"))
        population = max(2, candidates // params.label.initial_latents)
        cem = params.label.cem.model_copy(update={"iterations": iterations, "population": population})
        changed = {"reference": steps, "slack": 0.0, "band": 1.0, "cem": cem}
        torch.manual_seed(0)
        model = WorldModel(OBSERVATION, ACTION, params.dreamer)
        belief = BeliefNet(OBSERVATION, model.feature_dim, params.belief)
        scale = FrameScale(np.full(OBSERVATION, OBSERVATION**-0.5, np.float32))
        reenactor = Reenactor(model, belief, scale, Rates(1, 1, 0.02), params.label.model_copy(update=changed))
        random = np.random.default_rng(0)
        shape = segments, params.label.prefix + steps, OBSERVATION
        frames = random.standard_normal(shape, dtype=np.float32)
        prefix, reference = np.split(frames, [params.label.prefix], axis=1)
        rate, origin = np.ones((segments, steps), np.float32), np.zeros((segments, 2), np.int64)
        seeds = random.integers(2**31, size=segments)
        return Work(reenactor, Segments(prefix, reference, rate, origin), seeds)

    def chunk(self, index: np.ndarray) -> tuple[Segments, np.ndarray]:
        """Some of the segments, as the label stage hands them out."""
        return self.segments.take(index), self.seeds[index]

    def label(self, where: Executor = HERE) -> Alignments:
        """All of them, as the label stage does it."""
        chunks = chunk_indices(len(self.segments), self.reenactor.settings.chunk)
        ahead = {number: self.chunk(index) for number, index in enumerate(chunks)}
        done = dict(each(align_chunk, (self.reenactor, None), ahead, where))
        return Alignments.join([done[number] for number in sorted(done)])

    @property
    def operations(self) -> int:
        """Multiplications and additions in the matrix products of one imagined and decoded step."""
        model = self.reenactor.model
        parts = (model.cell_input, model.cell, model.prior_net, model.decoder)
        matrices = [p for part in parts for p in part.parameters() if p.ndim == 2]
        # Along the mean nobody asks for the standard deviation, the other half of the prior's output.
        unused = model.stoch * model.dynamics().output.shape[1]
        return 2 * (sum(matrix.numel() for matrix in matrices) - unused)


# -- other ways --------------------------------------------------------------------------------------------


def with_rival(rival: Rival) -> Warping:
    """Costs (S, B) by a rival, one reference after the other."""

    def warp(x: Tensor, y: Tensor, window: int, *, open_end: bool, slope: float) -> Tensor:
        pairs = ((a.numpy(), np.ascontiguousarray(b.numpy())) for a, b in zip(x, y, strict=True))
        return torch.from_numpy(np.stack([costs(rival, rival(*pair)) for pair in pairs]).astype(np.float32))

    return warp


def fastest_rival(steps: int) -> tuple[str, Warping] | None:
    """The rival that is fastest at this work's shape, of those that are installed; with none a line says so."""
    random = np.random.default_rng(0)
    shapes = (1, steps, OBSERVATION), (1, 128, steps, OBSERVATION)
    x, y = (torch.from_numpy(random.standard_normal(shape, dtype=np.float32)) for shape in shapes)
    ways, calls = dict[str, Warping](), dict[str, Callable[[], Tensor]]()
    for rival in RIVALS:
        call = partial(with_rival(rival), x, y, 0, open_end=False, slope=1.0)
        try:
            call()
        except ImportError:
            continue
        ways[rival.__name__], calls[rival.__name__] = with_rival(rival), call
    if not calls:
        print("rivals: none is installed, so their row is left out; for it install the extra `benchmarks`")
        return None
    seconds = race(calls, 3)
    torch.set_num_threads(1)  # some of them set the threads of the OpenMP library that torch uses, too
    best = min(seconds, key=lambda name: seconds[name].min())
    print(f"fastest of {len(seconds)} rivals at this shape: {best}")
    return best, ways[best]


# -- measuring ---------------------------------------------------------------------------------------------


@dataclass
class Clock:
    """Processor seconds of one method: in all, and those of them spent on warping and on rollouts; segments done.

    products: seconds of each matrix product in between; they are in no other figure.
    """

    total: float = 0.0
    warping: float = 0.0
    rollouts: float = 0.0
    segments: int = 0
    products: list[float] = field(default_factory=list)


@contextmanager
def timed(clock: Clock, way: Way) -> Iterator[None]:
    """Have re-enactment go this way, time its parts, and matrix products behind every lot of rollouts."""
    imagine = Reenactor._imagine_observations

    def part(name: str, function: Callable) -> Callable:
        def run(*arguments: Any, **how: Any) -> Any:
            begin = time.process_time()
            result = function(*arguments, **how)
            setattr(clock, name, getattr(clock, name) + time.process_time() - begin)
            return result

        return run

    def rollouts(*arguments: Any) -> Tensor:
        imagined: Tensor = part("rollouts", imagine)(*arguments)
        begin = time.process_time()
        clock.products += product_seconds()
        clock.total -= time.process_time() - begin
        return imagined

    with (
        going(way._replace(warp=part("warping", way.warp))),
        patch.object(Reenactor, "_imagine_observations", rollouts),
    ):
        begin = time.process_time()
        yield
        clock.total += time.process_time() - begin


SQUARE = np.random.default_rng(0).standard_normal((PRODUCT, PRODUCT), dtype=np.float32)


def product_seconds() -> list[float]:
    """Processor seconds of two matrix products, each by itself, with the caches as the one before has left them."""
    room, seconds = SQUARE @ SQUARE, []
    for _ in range(2):
        begin = time.process_time()
        np.matmul(SQUARE, SQUARE, out=room)
        seconds.append(time.process_time() - begin)
    return seconds


def methods(work: Work, samples: int) -> Iterator[dict[str, Any]]:
    """One row a method; the slow ones on ``samples`` segments, in turns with the chunks of the fast one."""
    ways = {"torch loop": Way(torch_loop)}
    if rival := fastest_rival(work.reenactor.settings.reference):
        ways[rival[0]] = Way(rival[1])
    chunks = chunk_indices(len(work.segments), work.reenactor.settings.chunk)
    clocks = {name: Clock() for name in ("telepath", *ways)}
    turns = set(np.linspace(0, len(chunks) - 1, samples).astype(int).tolist())
    for number, index in enumerate(chunks):
        for name, way in [("telepath", OURS), *(ways.items() if number in turns else ())]:
            some = index if name == "telepath" else index[:1]
            with timed(clocks[name], way):
                align_chunk((work.reenactor, None), work.chunk(some))
            clocks[name].segments += len(some)
    whole = {name: clock.total / clock.segments * len(work.segments) for name, clock in clocks.items()}
    if usable_cpus() > 1:
        begin = time.perf_counter()
        work.label(Executor(processes=2))
        whole["telepath, 2 processes"] = time.perf_counter() - begin
    cem, kept = work.reenactor.settings.cem, work.reenactor.settings.initial_latents
    steps = cem.iterations * cem.population * kept * work.reenactor.length  # a segment
    best = PRODUCT_OPERATIONS / min(min(clock.products) for clock in clocks.values())
    for name, seconds in whole.items():
        row = {
            "method": name,
            "measured segments": len(work.segments),
            "seconds": round(seconds, 1),
            "telepath is faster by": round(seconds / whole["telepath"], 2),
        }
        if clock := clocks.get(name):
            rate = work.operations * steps * clock.segments / clock.rollouts
            sgemm = PRODUCT_OPERATIONS / np.mean(clock.products)
            row |= {
                "measured segments": clock.segments,
                "DTW share": round(clock.warping / clock.total, 4),
                "rollouts' sgemm share": round(rate / sgemm, 3),
                "of the best": round(rate / best, 3),
                "sgemm GFLOP/s": round(sgemm / 1e9, 1),
                "Mcells/s": round(steps * work.reenactor.length * clock.segments / clock.warping / 1e6, 1),
            }
        yield row


def one_size(segments: int) -> dict[str, float]:
    """Seconds and peak memory of this process for so many segments, after a first chunk that compiles and allocates."""
    work = Work.make(segments, **SEARCH)
    align_chunk((work.reenactor, None), work.chunk(np.arange(min(16, segments))))
    begin = time.perf_counter()
    work.label()
    seconds = time.perf_counter() - begin
    return {"segments": segments, "seconds": round(seconds, 2), "peak MiB": round(peak_memory() / 2**20, 1)}


def peak_memory() -> int:
    """Bytes of this process at its largest."""
    status = Path("/proc/self/status")
    if status.exists():  # what the system reports of resource usage would count the process that this was forked from
        kib = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kib) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def scaling(sizes: list[int]) -> Iterator[dict[str, float]]:
    """``one_size`` of each, in a process of its own."""
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.labelling", "--one-size", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        yield json.loads(done.stdout.splitlines()[-1])


def expected_minutes(work: Work, samples: int, sizes: list[int]) -> float:
    """How long all of it takes, judged by one chunk with a single iteration."""
    settings = work.reenactor.settings
    once = Work.make(settings.chunk, 1, settings.cem.population * settings.initial_latents, work.reenactor.length)
    align_chunk((once.reenactor, None), once.chunk(np.arange(1)))
    begin = time.perf_counter()
    once.label()
    segment = (time.perf_counter() - begin) / settings.chunk * settings.cem.iterations
    share = SEARCH["iterations"] * SEARCH["candidates"] / settings.cem.iterations
    share /= settings.cem.population * settings.initial_latents
    whole = len(work.segments) * (1.6 if usable_cpus() > 1 else 1.1) + 4 * samples + sum(sizes) * share
    return (segment * whole + 8 * len(sizes)) / 60


# -- showing -----------------------------------------------------------------------------------------------


def draw(table: list[dict[str, Any]], sizes: list[dict[str, float]], path: Path) -> None:
    """Bars of the methods; time and memory over the number of segments."""
    from telepath.evaluation.agents import BLUE, FAINT, INK
    from telepath.evaluation.figures import drawing

    with drawing(path, 3.2) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
        names, seconds = [row["method"] for row in table], [row["seconds"] for row in table]
        colours = [BLUE if name.startswith("telepath") else FAINT for name in names]
        bars = left.barh([name.replace(", ", ",\n") for name in names], seconds, 0.65, color=colours)
        left.bar_label(bars, [f"{value:.0f}" for value in seconds], padding=3)
        left.set(xlabel="seconds", title="All segments once", xlim=(0, 1.2 * max(seconds)))
        left.invert_yaxis()
        left.grid(visible=False, axis="y")
        x = [row["segments"] for row in sizes]
        for axes, name, title in ((middle, "seconds", "Time"), (right, "peak MiB", "Memory")):
            axes.plot(x, [row[name] for row in sizes], "o-", color=BLUE)
            axes.set(xscale="log", xlabel="segments", ylabel=name, title=title)
            axes.set_xticks(x, [f"{n:,}" for n in x], fontsize=9)
            axes.minorticks_off()
        linear = [sizes[0]["seconds"] / x[0] * n for n in x]
        middle.plot(x, linear, color=INK, linewidth=1, linestyle="--", label="linear")
        middle.set(yscale="log")
        middle.yaxis.set_major_formatter("{x:g}")
        middle.legend()
        right.set_ylim(0, 1.15 * max(row["peak MiB"] for row in sizes))


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, write them and draw them."""
    parser = argparse.ArgumentParser(description="Benchmark of labelling.")
    parser.add_argument("--segments", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=512)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--samples", type=int, default=4, help="segments on which the slow methods are measured")
    parser.add_argument("--scale", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--one-size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_memory()  # as every stage does
    if options.one_size:
        print(json.dumps(one_size(options.one_size)))
        return
    work = Work.make(options.segments, options.iterations, options.candidates, options.steps)
    minutes = expected_minutes(work, options.samples, options.scale)
    print(f"expected to take about {minutes:.1f} minutes", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    table = show(methods(work, options.samples), options.out / "labelling.csv")
    sizes = show(scaling(options.scale), options.out / "labelling-scale.csv")
    draw(table, sizes, options.out / "labelling.png")


if __name__ == "__main__":
    main()
