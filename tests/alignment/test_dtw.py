"""Dynamic time warping against a plain float64 table, by hand, and against itself in other company."""

import concurrent.futures
import math
import os
import platform
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telepath.alignment import dtw, lanes
from telepath.alignment.dtw import dtw_batch, dtw_pairs, dtw_path, dtw_paths, nearest, window_of


def oracle_band(n, m, window, slope, open_end):
    """Cells of the band by definition: the radius grows frame by frame until some path gets through."""
    i, j = np.arange(n)[:, None], np.arange(m)
    if window is None:
        return np.ones((n, m), bool)
    if slope is None:
        return abs(i - j) <= max(window, abs(n - m))
    for radius in range(window, window + n + m + math.ceil(slope * n)):
        inside = abs(j - slope * i) <= radius + 1e-9
        open_cells = oracle_table(np.where(inside, 0.0, np.inf), False)[-1]
        if np.isfinite(open_cells).any() if open_end else np.isfinite(open_cells[-1]):
            return inside
    raise AssertionError("no radius gives a path")


def oracle_table(local, open_begin):
    n, m = local.shape
    table = np.full((n, m), np.inf)
    for i in range(n):
        for j in range(m):
            before = [table[a, b] for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]
            if i == 0 and (j == 0 or open_begin):
                before = [0.0]
            table[i, j] = local[i, j] + min(before)
    return table


def oracle_path(table, open_begin, open_end):
    """Ties: diagonal, then (i-1, j), then (i, j-1)."""
    i, j = len(table) - 1, int(table[-1].argmin()) if open_end else table.shape[1] - 1
    path = [(i, j)]
    while i > 0 or (j > 0 and not open_begin):
        steps = [(a, b) for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]
        i, j = min(steps, key=lambda cell: table[cell])
        path.append((i, j))
    return np.array(path[::-1])


def oracle(x, y, window=None, weights=None, *, open_begin=False, open_end=False, slope=None):
    weights = np.ones(x.shape[1]) if weights is None else weights
    local = (weights * (x[:, None].astype(np.float64) - y) ** 2).sum(2)
    local = np.where(oracle_band(len(x), len(y), window, slope, open_end), local, np.inf)
    table = oracle_table(local, open_begin)
    path = oracle_path(table, open_begin, open_end)
    return table[tuple(path[-1])], path


def sequences(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def column(*values):
    return np.array(values, np.float32)[:, None]


options = st.fixed_dictionaries(
    {},
    optional={
        "window": st.integers(0, 12),
        "slope": st.sampled_from([0.1, 1 / 3, 0.5, 2 / 3, 1.0, 1.3, 1.5, 2.0, 10 / 3, 7.0]),
        "open_begin": st.booleans(),
        "open_end": st.booleans(),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 14),
    m=st.integers(1, 26),
    d=st.sampled_from([1, 2, 3, 4, 5, 8, 17, 64]),  # with 64, a strip is 8 columns wide
    b=st.integers(1, 18),
    weighted=st.booleans(),
    coarse=st.booleans(),
    options=options,
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_the_definition(n, m, d, b, weighted, coarse, options, seed):
    x, y = sequences(seed, n, d), sequences(seed + 1, b, m, d)
    if coarse:  # small whole numbers: sums are exact and ties are many
        x, y = np.round(x), np.round(y)
    weights = np.random.default_rng(seed).integers(0, 4, d).astype(np.float32) if weighted else None
    cost = dtw_batch(x, y, weights=weights, **options)
    assert cost.shape == (b,)
    assert cost.dtype == np.float32
    lanes = sorted({0, b // 2, b - 1})
    for lane in lanes:
        expected, expected_path = oracle(x, y[lane], weights=weights, **options)
        np.testing.assert_allclose(cost[lane], expected, rtol=2e-6)
        path, path_cost = dtw_path(x, y[lane], weights=weights, **options)
        assert path_cost == cost[lane]
        if coarse:
            assert cost[lane] == expected
            np.testing.assert_array_equal(path, expected_path)


@pytest.mark.parametrize(
    ("n", "m", "d", "window", "slope"),
    [
        (64, 64, 24, None, None),
        (64, 64, 17, 8, None),
        (61, 75, 8, 5, 1.2),
        (30, 45, 300, None, None),
        (9, 150, 40, 20, 16.0),
        (150, 9, 3, 2, 0.06),
    ],
)
@pytest.mark.parametrize("open_ends", [False, True])
def test_longer_sequences(n, m, d, window, slope, open_ends):
    x, y = sequences(1, n, d), sequences(2, 3, m, d)
    how = {"window": window, "slope": slope, "open_begin": open_ends, "open_end": open_ends}
    expected = [oracle(x, candidate, **how)[0] for candidate in y]
    np.testing.assert_allclose(dtw_batch(x, y, **how), expected, rtol=2e-6)
    assert [dtw_path(x, candidate, **how)[1] for candidate in y] == list(dtw_batch(x, y, **how))


def test_by_hand():
    x, y = column(0, 1, 3), column(0, 2, 3, 3)
    path, cost = dtw_path(x, y)
    assert cost == 1
    assert path.tolist() == [[0, 0], [1, 1], [2, 2], [2, 3]]
    assert dtw_path(x, y, open_end=True)[0].tolist() == [[0, 0], [1, 1], [2, 2]]


def test_without_a_band_tracks_of_one_length_are_compared_frame_by_frame():
    x, y = np.random.default_rng(0).standard_normal((2, 12, 3)).astype(np.float32)
    path, cost = dtw_path(x, y, window_of(0.0, 12))
    assert path.tolist() == [[i, i] for i in range(12)]
    assert cost == pytest.approx(np.square(x - y).sum(), rel=1e-5)
    assert (window_of(0.1, 12), window_of(0.5, 12)) == (2, 6)


def test_weights_by_hand():
    x, y = np.array([[0, 0]], np.float32), np.array([[3, 5]], np.float32)
    assert dtw_batch(x, y[None], weights=np.array([2, 0.5])) == 2 * 9 + 0.5 * 25
    assert dtw_batch(x, y[None], weights=np.ones(2)) == dtw_batch(x, y[None])


def test_subsequence_is_found_where_it_lies():
    y = column(9, 9, 9, 1, 2, 3, 9, 9)
    path, cost = dtw_path(column(1, 2, 3), y, open_begin=True, open_end=True)
    assert cost == 0
    assert path.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_one_open_end_leaves_the_other_closed():
    x, y = column(1, 2), column(5, 1, 2, 7)
    assert dtw_batch(x, y[None], open_begin=True) == 25
    assert dtw_batch(x, y[None], open_end=True) == 16


def test_ties_go_to_the_diagonal_then_to_the_earlier_reference_frame():
    flat = np.zeros((3, 1), np.float32)
    assert dtw_path(flat, flat)[0].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert dtw_path(np.zeros((4, 1), np.float32), flat)[0].tolist() == [[0, 0], [1, 0], [2, 1], [3, 2]]
    assert dtw_path(flat, flat, open_begin=True, open_end=True)[0].tolist() == [[0, 0], [1, 0], [2, 0]]


def test_window_zero_is_the_diagonal():
    x, y = sequences(1, 12, 5), sequences(2, 1, 12, 5)
    np.testing.assert_allclose(dtw_batch(x, y, 0), ((x - y[0]) ** 2).sum(), rtol=1e-6)
    assert dtw_path(x, y[0], 0)[0].tolist() == [[i, i] for i in range(12)]


def test_band_round_a_slope_follows_the_line():
    x = sequences(3, 10, 4)
    y = np.repeat(x, 3, axis=0)[:28]
    assert dtw_batch(x, y[None], 2, slope=3.0) == 0
    path, _ = dtw_path(x, sequences(4, 28, 4), 2, slope=3.0)
    assert (abs(path[:, 1] - 3 * path[:, 0]) <= 2).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("window", [None, 3])
def test_a_bad_candidate_costs_inf_and_harms_nobody(bad, window):
    x, y = sequences(1, 20, 9), sequences(2, 40, 22, 9)
    good = dtw_batch(x, y, window)
    for lane, frame, dim in ((0, 0, 0), (5, 21, 8), (17, 10, 4), (39, 19, 0)):
        y[lane, frame, dim] = bad
    cost = dtw_batch(x, y, window)
    spoilt = np.isin(np.arange(40), [0, 5, 17, 39])
    assert (cost[spoilt] == np.inf).all()
    np.testing.assert_array_equal(cost[~spoilt], good[~spoilt])
    path, total = dtw_path(x, y[5], window)
    assert path.shape == (0, 2)
    assert total == np.inf


def test_a_bad_reference_costs_inf_for_its_own_candidates_only():
    x, y = sequences(1, 3, 10, 4), sequences(2, 3, 5, 10, 4)
    good = dtw_batch(x, y)
    x[1, 4, 2] = np.nan
    cost = dtw_batch(x, y)
    assert (cost[1] == np.inf).all()
    np.testing.assert_array_equal(cost[[0, 2]], good[[0, 2]])


def test_overflow_is_inf_and_still_has_a_path():
    x, y = np.full((3, 2), -3e38, np.float32), np.full((1, 5, 2), 3e38, np.float32)
    assert dtw_batch(x, y) == np.inf
    path, cost = dtw_path(x, y[0])
    assert cost == np.inf
    assert path[[0, -1]].tolist() == [[0, 0], [2, 4]]


@pytest.mark.parametrize("d", [1, 3, 8, 16, 17, 24, 40])
def test_company_lanes_and_strides_change_no_bit(d):
    x, y = sequences(1, 21, d), sequences(2, 37, 23, d)
    how = {"window": 6, "open_end": True}
    cost = dtw_batch(x, y, **how)
    order = np.random.default_rng(0).permutation(37)
    np.testing.assert_array_equal(dtw_batch(x, y[order], **how), cost[order])
    for size in (1, 2, 15, 16, 17):
        np.testing.assert_array_equal(dtw_batch(x, y[3 : 3 + size], **how), cost[3 : 3 + size])
    time_major = np.ascontiguousarray(y.transpose(1, 0, 2)).transpose(1, 0, 2)
    dim_first = np.ascontiguousarray(y.transpose(2, 0, 1)).transpose(1, 2, 0)
    spaced = np.zeros((37, 46, 2 * d), np.float32)[:, ::2, ::2]
    spaced[:] = y
    backwards = np.ascontiguousarray(y[::-1, ::-1])[::-1, ::-1]
    for view in (time_major, dim_first, spaced, backwards):
        np.testing.assert_array_equal(dtw_batch(x, view, **how), cost)
    x.flags.writeable = y.flags.writeable = False
    np.testing.assert_array_equal(dtw_batch(x, y, **how), cost)


def test_one_compiled_version_serves_all():
    x, y = sequences(1, 2, 9, 4), sequences(2, 2, 5, 9, 4)
    x.flags.writeable = False
    dtw_batch(x[:, ::2], y.transpose(1, 0, 2, 3)[:2])
    dtw_batch(x[0], y[0], weights=np.ones(4), threads=2)
    dtw_path(x[0], y[0, 0])
    dtw_pairs(x, y[0], np.zeros((2, 3), np.int32))
    assert len(lanes.warp.signatures) == 1


def test_segments_in_time_major_order():
    x, y = sequences(1, 4, 12, 6), sequences(2, 4, 19, 15, 6)
    each = np.stack([dtw_batch(x[s], y[s], 4, slope=1.25) for s in range(4)])
    np.testing.assert_array_equal(dtw_batch(x, y, 4, slope=1.25), each)
    rollout = np.ascontiguousarray(y.transpose(2, 0, 1, 3))
    np.testing.assert_array_equal(dtw_batch(x, rollout.transpose(1, 2, 0, 3), 4, slope=1.25), each)


def test_a_view_is_not_copied():
    rollout = np.zeros((50, 2000, 10), np.float32)
    dtw_batch(rollout[:, 0], rollout.transpose(1, 0, 2)[:16])
    tracemalloc.start()
    try:
        dtw_batch(rollout[:, 0], rollout.transpose(1, 0, 2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < rollout.nbytes / 10


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_no_bit(threads):
    x, y = sequences(1, 3, 16, 5), sequences(2, 3, 150, 16, 5)
    np.testing.assert_array_equal(dtw_batch(x, y, threads=threads), dtw_batch(x, y))
    pairs = np.random.default_rng(0).integers(0, 150, (3, 20))
    np.testing.assert_array_equal(dtw_pairs(x, y[0], pairs, threads=threads), dtw_pairs(x, y[0], pairs))


def test_runs_in_a_forked_child_after_threads_were_used():
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    x, y = sequences(1, 16, 5), sequences(2, 100, 16, 5)
    cost = dtw_batch(x, y, threads=2)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(dtw_batch(x, y, threads=2), cost) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_concurrent_calls():
    x, y = sequences(1, 16, 5), sequences(2, 100, 16, 5)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        costs = list(pool.map(lambda _: dtw_batch(x, y), range(8)))
    assert (np.stack(costs) == costs[0]).all()


def test_pairs_and_paths_are_those_of_the_single_calls():
    x, y = sequences(1, 5, 11, 4), sequences(2, 30, 14, 4)
    pairs = np.random.default_rng(3).integers(0, 30, (5, 18)).astype(np.int32)
    how = {"window": 4, "open_begin": True, "open_end": True, "slope": 1.2}
    cost, paths = dtw_pairs(x, y, pairs, **how), dtw_paths(x, y, pairs, **how)
    assert cost.shape == (5, 18)
    np.testing.assert_array_equal(paths.cost, cost)
    for w in range(5):
        np.testing.assert_array_equal(cost[w], dtw_batch(x[w], y[pairs[w]], **how))
    for w, c in ((0, 0), (2, 15), (3, 16), (4, 17)):
        path, total = dtw_path(x[w], y[pairs[w, c]], **how)
        assert total == cost[w, c]
        length = paths.length[w, c]
        np.testing.assert_array_equal(paths.path[w, c, :length], path)
        assert (paths.path[w, c, length:] == path[-1]).all()


def test_nearest_is_exact_and_ordered():
    x, y = sequences(1, 40, 3, 6) + 50, sequences(2, 200, 3, 6) + 50
    y[17] = np.nan
    distance = ((x[:, None].astype(np.float64) - y) ** 2).sum((2, 3))
    distance[:, 17] = np.inf
    np.testing.assert_array_equal(nearest(x, y, 7), distance.argsort(1)[:, :7])
    assert nearest(x, y, 200).shape == (40, 200)
    assert (nearest(x, y, 200)[:, -1] == 17).all()


def test_nearest_of_nothing_and_of_what_is_not_finite(recwarn):
    y = np.ones((3, 2, 4), np.float32)
    assert nearest(np.zeros((0, 2, 4), np.float32), y, 2).shape == (0, 2)
    y[1, 0, 0], y[0, 1, 1] = np.inf, np.nan
    assert nearest(np.ones((2, 2, 4), np.float32), y, 3)[:, 0].tolist() == [2, 2]
    assert not list(recwarn)


def test_nearest_in_lots(monkeypatch):
    x, y = sequences(1, 40, 2, 3), sequences(2, 30, 2, 3)
    whole = nearest(x, y, 5)
    monkeypatch.setattr(dtw, "_DISTANCES", 100)
    np.testing.assert_array_equal(nearest(x, y, 5), whole)


def test_empty_batches():
    x = sequences(1, 4, 3)
    assert dtw_batch(x, np.empty((0, 5, 3), np.float32)).shape == (0,)
    assert dtw_pairs(x[None], sequences(2, 6, 4, 3), np.empty((1, 0), np.int64)).shape == (1, 0)


good_x, good_y = np.zeros((4, 3), np.float32), np.zeros((2, 5, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((good_x, good_y[0]), r"\(B, M, D\).*got x \(4, 3\) and y \(5, 3\)"),
        ((good_x[None], good_y[None].repeat(2, 0)), "as many references .* got 1 and 2"),
        ((good_x.astype(np.float64), good_y), "x: expected a float32 array, got float64"),
        ((good_x, good_y.astype(np.float16)), "y: expected a float32 array, got float16"),
        ((good_x.tolist(), good_y), "x: expected a float32 array, got list"),
        ((good_x[:0], good_y), "at least one frame"),
        ((good_x, good_y[:, :0]), "at least one frame"),
        ((good_x[:, :0], good_y[..., :0]), "at least one frame and dimension"),
        ((good_x[:, :2], good_y), "the same D, got 2 and 3"),
        ((good_x, good_y, -1), "window: expected .* got -1"),
        ((good_x, good_y, 2.5), "window: expected .* got 2.5"),
        ((good_x, good_y, None, np.ones(2)), r"weights: expected \(3,\).* got \(2,\)"),
        ((good_x, good_y, None, np.array([1, -1, 1])), "weights: expected .* not negative"),
        ((good_x, good_y, None, np.array([1, np.nan, 1])), "weights: expected .* finite"),
    ],
)
def test_errors_of_a_batch(arguments, message):
    with pytest.raises(ValueError, match=message):
        dtw_batch(*arguments)


@pytest.mark.parametrize("slope", [0, -1.0, np.nan, np.inf])
def test_errors_of_the_slope(slope):
    with pytest.raises(ValueError, match=r"slope: expected .* above 0, got"):
        dtw_batch(good_x, good_y, 2, slope=slope)


def test_errors_of_the_other_calls():
    with pytest.raises(ValueError, match=r"threads: expected .* at least 1, got 0"):
        dtw_batch(good_x, good_y, threads=0)
    with pytest.raises(ValueError, match=r"x \(N, D\) and y \(M, D\), got x \(4, 3\) and y \(2, 5, 3\)"):
        dtw_path(good_x, good_y)
    with pytest.raises(ValueError, match=r"x \(W, N, D\) and y \(S, M, D\)"):
        dtw_pairs(good_x, good_y, np.zeros((1, 1), int))
    for pairs in (np.zeros(1, int), np.zeros((2, 1), int), np.zeros((1, 1))):
        with pytest.raises(ValueError, match=r"pairs: expected \(1, C\) integers"):
            dtw_pairs(good_x[None], good_y, pairs)
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match="pairs: expected 0 to 1, got"):
            dtw_pairs(good_x[None], good_y, np.array([[wrong]]))
    with pytest.raises(ValueError, match="the same F and D"):
        nearest(good_y, good_y[:, :2], 1)
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"count: expected .* from 1 to 2, got {count}"):
            nearest(good_y, good_y, count)


def test_works_where_nothing_can_be_written(tmp_path):
    """Package and home read-only: compiled in memory."""
    package = Path(dtw.__file__).parents[1]
    copy = tmp_path / "site" / "telepath"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (copy / "alignment", copy):
        (folder / "__pycache__").touch()  # a file in the place of the folder: not even root can write there
    home = tmp_path / "home"
    home.touch()
    code = "from telepath.alignment import dtw; print(dtw.__file__)"
    env = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home), "PYTHONPATH": str(copy.parent)}
    env.pop("NUMBA_CACHE_DIR", None)
    run = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()) == copy / "alignment" / "dtw.py"


FRESH = """
import numpy as np
from telepath.alignment.dtw import dtw_batch
from telepath.alignment.lanes import warp
random = np.random.default_rng(5)
x, y = random.standard_normal((21, 17), dtype=np.float32), random.standard_normal((40, 23, 17), dtype=np.float32)
cost = dtw_batch(x, y, 6, open_end=True)
print(warp.stats.cache_misses.total())
print(*cost.tolist())
"""


def fresh(folder: Path, **variables: str) -> tuple[int, np.ndarray]:
    """How often the first call of a process of its own compiled, and its costs; compiled code lies in ``folder``."""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(Path(dtw.__file__).parents[2]), **variables}
    run = subprocess.run([sys.executable, "-c", FRESH], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    misses, costs = run.stdout.splitlines()
    return int(misses), np.array(costs.split(), np.float64)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("compiled")
    misses, cost = fresh(folder)
    assert misses == 1
    return folder, cost


@pytest.mark.slow
def test_once_compiled_the_first_call_of_a_process_compiles_nothing(compiled):
    """So that it takes less than half a second, which `benchmarks.dtw` shows."""
    folder, cost = compiled
    misses, again = fresh(folder)
    np.testing.assert_array_equal(again, cost)
    assert misses == 0


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names a processor of this kind")
def test_on_a_processor_with_shorter_vectors(compiled, tmp_path):
    """Code for AVX2, which has the same fused multiply-add: the same bits."""
    _, cost = fresh(tmp_path, NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+avx2,+fma,+bmi,+bmi2")
    np.testing.assert_array_equal(cost, compiled[1])
