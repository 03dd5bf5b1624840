"""Speed and accuracy of ``telepath.alignment.dtw`` on one core, rivals interleaved.

    python -m benchmarks.dtw [--rounds 15] [--out reports/benchmarks]

Every round times one call of everybody in seconds of processor time, so that a busy or throttled machine slows all
alike; the table shows the best of the rounds, and the machine's load is printed with it. Millions of table cells a
second count the whole N x M table, also where a band leaves most of it out. *sgemm share* is 2 D operations a cell over
the rate at which numpy multiplies float32 matrices in the same rounds. The direct difference and square take two
instructions where sgemm takes one: with units of their own for sums (AMD's Zen) they may run side by side, without such
units (Intel) one half is the most that can be had. *relative error* is the largest one to float64 over some candidates.
The rivals, how they are used and which were left out: ``benchmarks.warpers``. Those that are not installed are skipped.
Writes dtw.csv and dtw.png.
"""

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for _library in ("OPENBLAS", "OMP", "MKL"):  # one core, also for the matrix product
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from benchmarks.warpers import RIVALS, Call, costs  # noqa: E402
from telepath.alignment.dtw import dtw_batch  # noqa: E402
from telepath.episodes import Array  # noqa: E402

LENGTH, PRODUCT = 64, 512
CASES = [(8, 1024, None), (17, 1024, None), (24, 1024, None), (24, 1024, 8), (1024, 128, None)]


def exact(x: Array, candidate: Array) -> float:
    """float64 cost without a band."""
    local = ((x[:, None].astype(np.float64) - candidate) ** 2).sum(2)
    table = np.full((len(x) + 1, len(candidate) + 1), np.inf)
    table[0, 0] = 0
    for i, row in enumerate(local):
        for j, cost in enumerate(row):
            table[i + 1, j + 1] = cost + min(table[i, j], table[i, j + 1], table[i + 1, j])
    return float(table[-1, -1])


def race(calls: dict[str, Call], rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, float]:
    """Best seconds of each, in turns."""
    best = {}
    for name, call in calls.items():
        call()  # compilation, caches
        best[name] = np.inf
    for _ in range(rounds):
        for name, call in calls.items():
            begin = clock()
            call()
            best[name] = min(best[name], clock() - begin)
    return best


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    """One row a case and method."""
    random = np.random.default_rng(0)
    skipped: set[str] = set()
    square = random.standard_normal((PRODUCT, PRODUCT), dtype=np.float32)
    for dim, batch, window in CASES:
        x = random.standard_normal((LENGTH, dim), dtype=np.float32)
        y = random.standard_normal((batch, LENGTH, dim), dtype=np.float32)
        y[::2] = x + 0.1 * y[::2]  # half of them close to the reference, as a planner's candidates are in the end
        calls: dict[str, Call] = {
            "telepath": lambda x=x, y=y, w=window: dtw_batch(x, y, w),  # type: ignore[misc]
            "sgemm": lambda: square @ square,
        }
        size, error = {"telepath": batch}, dict[str, float]()
        if window is not None:
            calls["telepath, no band"], size["telepath, no band"] = lambda x=x, y=y: dtw_batch(x, y), batch  # type: ignore[misc]
        else:
            true = np.array([exact(x, candidate) for candidate in y[:8]])
            error["telepath"] = np.max(np.abs(dtw_batch(x, y[:8]) / true - 1))
            for rival, part in RIVALS.items():
                name, some = rival.__name__, y[: max(1, batch // part)]
                try:
                    calls[name], size[name] = rival(x, some), len(some)
                except ImportError:
                    skipped.add(name)
                    continue
                error[name] = np.max(np.abs(costs(rival, calls[name])[:8] / true[: len(some)] - 1))
        best = race(calls, rounds)
        sgemm = 2 * PRODUCT**3 / best["sgemm"]
        speed = {name: size[name] * LENGTH**2 / best[name] for name in size}
        for name, cells in speed.items():
            yield {
                "D": dim,
                "B": size[name],
                "window": window,
                "method": name,
                "Mcells/s": round(cells / 1e6, 1),
                "telepath is faster by": round(speed["telepath"] / cells, 2),
                "sgemm share": round(2 * dim * cells / sgemm, 3),
                "relative error": f"{error[name]:.1e}" if name in error else "",
            }
    if skipped:
        print(f"not installed, skipped: {', '.join(sorted(skipped))}")


def threads_row(rounds: int) -> str:
    """How much two threads gain."""
    y = np.random.default_rng(0).standard_normal((8192, LENGTH, 24), dtype=np.float32)
    best = race({str(t): lambda t=t: dtw_batch(y[0], y, threads=t) for t in (1, 2)}, rounds, time.perf_counter)  # type: ignore[misc]
    gain = best["1"] / best["2"]
    return f"two threads, 8192 candidates: {gain:.2f} times one in wall time, at a load of {load()}"


def load() -> str:
    """Mean number of processes that wanted a CPU in the last minute, of how many CPUs."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs" if hasattr(os, "getloadavg") else "unknown"


def draw(table: list[dict[str, Any]], path: Path) -> None:
    """Cells a second of everybody, a group of bars for each D."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    table = [row for row in table if row["window"] is None]
    methods = list(dict.fromkeys(row["method"] for row in table))
    dims = list(dict.fromkeys(row["D"] for row in table))
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for m, method in enumerate(methods):
        bars = {row["D"]: row["Mcells/s"] for row in table if row["method"] == method}
        at = np.arange(len(dims)) + (m - (len(methods) - 1) / 2) * 0.8 / len(methods)
        axes.bar(at, [bars.get(d, np.nan) for d in dims], 0.8 / len(methods), label=method)
    axes.set(yscale="log", ylabel="million table cells a second, one core")
    axes.set_xticks(range(len(dims)), [f"D = {d}" for d in dims])
    axes.set_title(f"Dynamic time warping, {LENGTH} x {LENGTH} frames")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def _width(name: str) -> int:
    return 20 if name == "method" else max(len(name), 6) + 2


def main() -> None:
    """Print the table, write it and draw it."""
    parser = argparse.ArgumentParser(description="Benchmark of the DTW engine.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    begin = time.perf_counter()
    dtw_batch(np.zeros((4, 2), np.float32), np.zeros((1, 4, 2), np.float32))
    print(f"first call: {time.perf_counter() - begin:.2f} s (compiles when it is the first one ever)")
    print(f"load: {load()}")
    table: list[dict[str, Any]] = []
    for row in rows(options.rounds):
        if not table:
            print(*(f"{name:>{_width(name)}}" for name in row), sep="")
        print(*(f"{value!s:>{_width(name)}}" for name, value in row.items()), sep="")
        table.append(row)
    print(threads_row(options.rounds))
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "dtw.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    draw(table, options.out / "dtw.png")


if __name__ == "__main__":
    main()
