"""Speed and accuracy of ``telepath.alignment.dtw`` on one core, rivals interleaved; and of its other forms.

    python -m benchmarks.dtw [--rounds 15] [--form-rounds 300] [--out reports/benchmarks]

Every round times one call of everybody in seconds of processor time, so that a busy or throttled machine slows all
alike; the table shows the best of the rounds, and the machine's load is printed with it. *median ratio* is that of the
ratios within a round, of calls that ran one after the other: it says what the best may owe to luck. Millions of table
cells a second count the whole N x M table, also where a band leaves most of it out. *sgemm share* is 2 D
operations a cell over the rate at which numpy multiplies float32 matrices of 512 x 512, into room made before, in the
same rounds: best over best, and *median share* within a round. The direct difference and
square take two instructions where sgemm takes one: with units of their own for sums (AMD's Zen) they may run side by
side, without such units (Intel) one half is the most that can be had. *relative error* is the largest one to float64
over some candidates. The rivals, how they are used and which were left out: ``benchmarks.warpers``. Those that are not
installed are skipped.

The other forms are held to the plain call at D = 24, in a race of their own: a call takes a millisecond or two, so
there are many rounds. *times the plain call* is how much faster a form fills the same table:

    band of 8       the Sakoe-Chiba radius
    open end        the candidate may end early
    weights         one for each dimension: a third instruction where there were two
    time-major      candidates as a rollout leaves them, (M, B, D), read by their strides
    pairs           ``dtw_pairs``: windows against sequences of a pool drawn at random, both ends open
    two threads     on 8,192 candidates, against one thread on the same; by the clock on the wall, so the machine must
                    be idle

Last, the first call in a process of its own, after its imports, once another process has compiled.
Writes dtw.csv, dtw-forms.csv and dtw.png.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for _library in ("OPENBLAS", "OMP", "MKL"):  # one core, also for the matrix product
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from benchmarks.warpers import RIVALS, Call, costs  # noqa: E402
from telepath.alignment.dtw import dtw_batch, dtw_pairs  # noqa: E402
from telepath.episodes import Array  # noqa: E402

LENGTH, PRODUCT = 64, 512
CASES = [(8, 1024), (17, 1024), (24, 1024), (1024, 128)]
FORMS_DIM, RADIUS, WINDOWS = 24, 8, 16
FRESH = """
import time
import numpy as np
from telepath.alignment.dtw import dtw_batch
x, y = np.zeros((4, 2), np.float32), np.zeros((1, 4, 2), np.float32)
begin = time.process_time()
dtw_batch(x, y)
print(time.process_time() - begin)
"""


def exact(x: Array, candidate: Array) -> float:
    """float64 cost without a band."""
    local = ((x[:, None].astype(np.float64) - candidate) ** 2).sum(2)
    table = np.full((len(x) + 1, len(candidate) + 1), np.inf)
    table[0, 0] = 0
    for i, row in enumerate(local):
        for j, cost in enumerate(row):
            table[i + 1, j + 1] = cost + min(table[i, j], table[i, j + 1], table[i + 1, j])
    return float(table[-1, -1])


def race(calls: dict[str, Call], rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, Array]:
    """Seconds of each, (rounds,), in turns."""
    for call in calls.values():
        call()  # compilation, caches
    seconds = {name: np.zeros(rounds) for name in calls}
    for number in range(rounds):
        for name, call in calls.items():
            begin = clock()
            call()
            seconds[name][number] = clock() - begin
    return seconds


def some_sequences(batch: int, dim: int) -> tuple[Array, Array]:
    """A reference (N, D) and candidates (B, N, D), half of them close to it, as a planner's are in the end."""
    random = np.random.default_rng(0)
    x = random.standard_normal((LENGTH, dim), dtype=np.float32)
    y = random.standard_normal((batch, LENGTH, dim), dtype=np.float32)
    y[::2] = x + 0.1 * y[::2]
    return x, y


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    """One row a case and method."""
    skipped: set[str] = set()
    square = np.random.default_rng(0).standard_normal((PRODUCT, PRODUCT), dtype=np.float32)
    room = np.empty_like(square)
    for dim, batch in CASES:
        x, y = some_sequences(batch, dim)
        calls: dict[str, Call] = {
            "telepath": lambda x=x, y=y: dtw_batch(x, y),  # type: ignore[misc]
            "sgemm, to warm up": lambda: np.matmul(square, square, out=room),
            "sgemm": lambda: np.matmul(square, square, out=room),
        }
        true = np.array([exact(x, candidate) for candidate in y[:8]])
        size, error = {"telepath": batch}, {"telepath": np.max(np.abs(dtw_batch(x, y[:8]) / true - 1))}
        for rival, part in RIVALS.items():
            name, some = rival.__name__, y[: max(1, batch // part)]
            try:
                calls[name], size[name] = rival(x, some), len(some)
            except ImportError:
                skipped.add(name)
                continue
            error[name] = np.max(np.abs(costs(rival, calls[name])[:8] / true[: len(some)] - 1))
        seconds = race(calls, rounds)
        sgemm = 2 * PRODUCT**3 / seconds["sgemm"]
        a_cell = {name: seconds[name] / (size[name] * LENGTH**2) for name in size}
        for name, each in a_cell.items():
            yield {
                "D": dim,
                "B": size[name],
                "method": name,
                "Mcells/s": round(1e-6 / each.min(), 1),
                "telepath is faster by": round(each.min() / a_cell["telepath"].min(), 2),
                "median ratio": round(float(np.median(each / a_cell["telepath"])), 2),
                "sgemm share": round(2 * dim / each.min() / sgemm.max(), 3),
                "median share": round(float(np.median(2 * dim / each / sgemm)), 3),
                "relative error": f"{error[name]:.1e}",
            }
    if skipped:
        print(f"not installed, skipped: {', '.join(sorted(skipped))}")


def form_rows(rounds: int) -> Iterator[dict[str, Any]]:
    """One row a form."""
    x, y = some_sequences(1024, FORMS_DIM)
    weights, rollout = np.linspace(0.5, 2, FORMS_DIM), np.ascontiguousarray(y.transpose(1, 0, 2))
    pairs = np.random.default_rng(0).integers(len(y), size=(WINDOWS, len(y) // WINDOWS))
    forms: dict[str, Call] = {
        "plain call": lambda: dtw_batch(x, y),
        f"band of {RADIUS}": lambda: dtw_batch(x, y, RADIUS),
        "open end": lambda: dtw_batch(x, y, open_end=True),
        "weights": lambda: dtw_batch(x, y, weights=weights),
        "time-major": lambda: dtw_batch(x, rollout.transpose(1, 0, 2)),
        "pairs": lambda: dtw_pairs(y[:WINDOWS], y, pairs, open_begin=True, open_end=True),
    }
    yield from _against_the_first(forms, len(y), race(forms, rounds))
    many = some_sequences(8192, FORMS_DIM)
    threads: dict[str, Call] = {
        "one thread": lambda: dtw_batch(*many, threads=1),
        "two threads": lambda: dtw_batch(*many, threads=2),
    }
    yield from _against_the_first(threads, len(many[1]), race(threads, rounds, time.perf_counter))


def _against_the_first(forms: dict[str, Call], batch: int, seconds: dict[str, Array]) -> Iterator[dict[str, Any]]:
    plain = seconds[next(iter(forms))]
    for name in forms:
        yield {
            "form": name,
            "B": batch,
            "Mcells/s": round(batch * LENGTH**2 / seconds[name].min() / 1e6, 1),
            "times the plain call": round(plain.min() / seconds[name].min(), 3),
            "median ratio": round(float(np.median(plain / seconds[name])), 3),
            "rounds": len(plain),
        }


def first_calls(processes: int = 5) -> list[float]:
    """Processor seconds of the first call in each of some processes, one after the other; none of them compiles."""
    command = [sys.executable, "-c", FRESH]
    took = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(processes + 1)
    ]
    return took[1:]  # the one before may have compiled


def load() -> str:
    """Mean number of processes that wanted a CPU in the last minute, of how many CPUs."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs" if hasattr(os, "getloadavg") else "unknown"


def draw(table: list[dict[str, Any]], path: Path) -> None:
    """Cells a second of everybody, a panel for each D."""
    from telepath.evaluation.agents import BLUE, FAINT
    from telepath.evaluation.figures import drawing

    methods = list(dict.fromkeys(row["method"] for row in table))
    dims = list(dict.fromkeys(row["D"] for row in table))
    with drawing(path, 0.27 * len(methods) + 1.3) as figure:
        axes = figure.subplots(1, len(dims), sharey=True, squeeze=False)[0]
        for panel, dim in zip(axes, dims, strict=True):
            found = {row["method"]: row["Mcells/s"] for row in table if row["D"] == dim}
            shown = [method for method in methods if method in found]
            colours = [BLUE if method == "telepath" else FAINT for method in shown]
            bars = panel.barh(shown, [found[method] for method in shown], 0.7, color=colours)
            panel.bar_label(bars, [f"{found[method]:,.{int(found[method] < 10)}f}" for method in shown], padding=3)
            # Room for the numbers behind the bars, on a logarithmic axis.
            panel.set(xscale="log", title=f"D = {dim}", xlim=(min(found.values()) / 3, 12 * max(found.values())))
            panel.set_xticks([])
            panel.grid(visible=False)
            panel.minorticks_off()
            panel.tick_params(length=0)
        axes[0].invert_yaxis()
        figure.supxlabel(
            f"million cells a second of tables of {LENGTH} x {LENGTH} frames, one core; logarithmic", fontsize=10
        )


def show(table: Iterator[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Print rows as they come, write and return them."""
    kept: list[dict[str, Any]] = []
    for row in table:
        if not kept:
            print(*(f"{name:>{_width(name)}}" for name in row), sep="")
        print(*(f"{value!s:>{_width(name)}}" for name, value in row.items()), sep="", flush=True)
        kept.append(row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    return kept


def _width(name: str) -> int:
    return 23 if name in ("method", "form") else max(len(name), 6) + 2


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, write them and draw the first."""
    parser = argparse.ArgumentParser(description="Benchmark of the DTW engine.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--form-rounds", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"load: {load()}")
    table = show(rows(options.rounds), options.out / "dtw.csv")
    show(form_rows(options.form_rounds), options.out / "dtw-forms.csv")
    seconds = first_calls()
    print(
        f"first call of a process: {np.median(seconds):.2f} s, at most {max(seconds):.2f} s in {len(seconds)} of them"
    )
    print(f"load: {load()}")
    draw(table, options.out / "dtw.png")


if __name__ == "__main__":
    main()
