"""Computes what the layers are checked against, by float64 numpy, dense matrices and plain loops.

Nothing here calls JAX or any of the packages.
"""

import functools
import itertools

import numpy as np


MIRROR_MODES = ("neumann", "neumann_cell", "dirichlet_node", "dirichlet_cell")
END_MODES = (*MIRROR_MODES, "dirichlet", "outflow")
ALL_ENDS = (("periodic", "periodic"), *itertools.product(END_MODES, END_MODES))
POLE_MODES = ("pole_cell", "pole_cell_odd", "pole_node", "pole_node_odd")


@functools.cache
def extension_row(position, size, ends):
    """Writes the extension `e[position]` as coefficients of `x[0..size-1]` and the two wall values.

    The formulas are those in the documentation of `pad`, but with `e` in place of `x` on their
    right sides, so that they can be applied repeatedly.
    """
    j, n, (lower, upper) = position, size, ends

    def e(index):
        return extension_row(index, n, ends)

    unit = np.eye(n + 2)
    if 0 <= j < n:
        return unit[j]
    if lower == "periodic":
        return unit[j % n]
    if n == 1 and ends == ("neumann", "neumann"):
        return unit[0]
    if j < 0:
        wall = unit[n]
        if lower == "dirichlet":
            return wall
        if lower == "outflow":
            return unit[0]
        if lower == "neumann":
            return e(-j)
        if lower == "neumann_cell":
            return e(-1 - j)
        if lower == "dirichlet_cell":
            return 2 * wall - e(-1 - j)
        if lower == "dirichlet_node":
            return wall if j == -1 else 2 * wall - e(-2 - j)
    else:
        wall, beyond = unit[n + 1], j - (n - 1)
        if upper == "dirichlet":
            return wall
        if upper == "outflow":
            return unit[n - 1]
        if upper == "neumann":
            return e(n - 1 - beyond)
        if upper == "neumann_cell":
            return e(n - beyond)
        if upper == "dirichlet_cell":
            return 2 * wall - e(n - beyond)
        if upper == "dirichlet_node":
            return wall if beyond == 1 else 2 * wall - e(n + 1 - beyond)
    raise AssertionError(ends)


def extension_matrix(positions, size, ends, values=(0.0, 0.0)):
    """Gives the matrix and the constant of `e[positions] = matrix @ x + constant`."""
    rows = np.array([extension_row(j, size, ends) for j in positions]).reshape(-1, size + 2)
    return rows[:, :size], rows[:, size:] @ np.asarray(values, float)


def pole_source(position, size, ends):
    """Finds where the extension over poles takes `e[position]` from: the row, the sign (0 for
    nothing), and the number of poles on the way. Applies the formulas of the ends until the
    position is on the grid.
    """
    j, n, sign, passages = position, size, 1, 0
    while not 0 <= j < n:
        end = ends[0] if j < 0 else ends[1]
        if end in ("pole_cell", "pole_cell_odd", "neumann_cell", "dirichlet_cell"):
            j = -1 - j if j < 0 else 2 * n - 1 - j
        elif end in ("pole_node", "pole_node_odd", "neumann"):
            j = -j if j < 0 else 2 * (n - 1) - j
        elif end == "dirichlet_node":
            if j in (-1, n):
                return 0, 0, 0
            j = -2 - j if j < 0 else 2 * n - j
        elif end == "outflow":
            j = 0 if j < 0 else n - 1
        elif end == "dirichlet":
            return 0, 0, 0
        else:
            raise AssertionError(end)
        if end.endswith("_odd") or end in ("dirichlet_cell", "dirichlet_node"):
            sign = -sign
        passages += end.startswith("pole")
    return j, sign, passages


def extension_over_poles(x, widths, ends):
    """Extends the last two axes of `x`, the latitude and the longitude around it, point by point,
    by the `widths` of both and the `ends` of the latitude.
    """
    (south, north), (west, east) = widths
    rows, columns = x.shape[-2:]
    out = np.zeros((*x.shape[:-2], south + rows + north, west + columns + east), x.dtype)
    for j in range(-south, rows + north):
        row, sign, passages = pole_source(j, rows, ends)
        for k in range(-west, columns + east):
            column = (k + passages * (columns // 2)) % columns
            out[..., j + south, k + west] = sign * x[..., row, column]
    return out


def unfolded_field(x, ends, positions):
    """Extends `x` between two mirrors (or a periodic `x`) from one whole period of the extension.

    The field and its image in the upper mirror form a period, or half of one if exactly one of the
    mirrors changes the sign. They are shortened by the node that a lower mirror of `neumann` shares
    with the next period, or lengthened by the wall node of `dirichlet_node`.
    """
    lower, upper = ends
    if lower == "periodic" or (len(x) == 1 and ends == ("neumann", "neumann")):
        period, sign = x, 1
    else:
        image = {
            "neumann": x[-2::-1] if len(x) > 1 else x[:0],
            "neumann_cell": x[::-1],
            "dirichlet_cell": -x[::-1],
            "dirichlet_node": np.concatenate([[0.0], -x[::-1]]),
        }[upper]
        period = np.concatenate([x, image])
        if lower == "neumann":
            period = period[:-1]
        if lower == "dirichlet_node":
            period = np.concatenate([period, [0.0]])
        sign = -1 if lower.startswith("dirichlet") != upper.startswith("dirichlet") else 1
    turns, places = np.divmod(np.asarray(positions), len(period))
    return np.where(turns % 2, sign, 1) * period[places]


def convolution(x, weight, bias, *, stride, dilation, groups, ends, padding=None):
    """Sums `weight[t] e[i * s + t * d - lower]` for output `i`. Unless `padding` gives the widths,
    `lower` is `(k - 1) // 2 * d` and the number of outputs is `ceil(N / s)`.
    """

    def positions(axis, tap):
        n, k, s, d = x.shape[1 + axis], weight.shape[2 + axis], stride[axis], dilation[axis]
        if padding is None:
            lower, outputs = (k - 1) // 2 * d, -(-n // s)
        else:
            lower, upper = padding[axis]
            outputs = (n + lower + upper - (k - 1) * d - 1) // s + 1
        return [i * s + tap * d - lower for i in range(outputs)]

    def matrix(axis, tap):
        return extension_matrix(positions(axis, tap), x.shape[1 + axis], ends[axis])[0]

    return _sum_over_taps(x, weight, bias, groups, matrix)


def transposed_convolution(
    x, weight, bias, *, stride, dilation, groups, ends, output_padding, padding=None
):
    """Sums `weight[t] z[j + t * d - lower]` for output `j`, where `z[i * s] = e[i]` and all other
    points of `z` are 0. Unless `padding` is that of another convolution to be transposed, `lower`
    is `k // 2 * d` and the number of outputs is `(N - 1) * s + 1 + o`.
    """

    def matrix(axis, tap):
        n, k, s, d = x.shape[1 + axis], weight.shape[2 + axis], stride[axis], dilation[axis]
        outputs = (n - 1) * s + 1 + output_padding[axis]
        lower = k // 2 * d
        if padding is not None:
            lower = (k - 1) * d - padding[axis][0]
            outputs += (k - 1) * d - sum(padding[axis])
        result = np.zeros((outputs, n))
        for j in range(outputs):
            place = j + tap * d - lower
            if place % s == 0:
                result[j] = extension_row(place // s, n, ends[axis])[:n]
        return result

    return _sum_over_taps(x, weight, bias, groups, matrix)


def _sum_over_taps(x, weight, bias, groups, matrix):
    """Computes the convolution, and the same sum over absolute values, a bound of its rounding."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    c_out, per_group = weight.shape[:2]
    total = magnitude = 0.0
    for tap in np.ndindex(weight.shape[2:]):
        read, read_magnitude = x, np.abs(x)
        for axis, t in enumerate(tap):
            rows = matrix(axis, t)
            read = np.moveaxis(np.tensordot(rows, read, (1, 1 + axis)), 0, 1 + axis)
            read_magnitude = np.moveaxis(
                np.tensordot(np.abs(rows), read_magnitude, (1, 1 + axis)), 0, 1 + axis
            )
        w = weight[(..., *tap)]
        blocks, magnitudes = [], []
        for g in range(groups):
            own = slice(g * per_group, (g + 1) * per_group)
            rows = w[g * (c_out // groups) : (g + 1) * (c_out // groups)]
            blocks.append(np.tensordot(rows, read[own], 1))
            magnitudes.append(np.tensordot(np.abs(rows), read_magnitude[own], 1))
        total = total + np.concatenate(blocks)
        magnitude = magnitude + np.concatenate(magnitudes)
    if bias is not None:
        total = total + np.asarray(bias, np.float64)
        magnitude = magnitude + np.abs(np.asarray(bias, np.float64))
    return total, magnitude


def assert_within_rounding(actual, oracle, magnitude, terms, where=""):
    """Checks a sum of `terms` products against the bound of its rounding.

    Each product is rounded once, and so are the `terms - 1` additions. The sum is off by at most
    `terms * eps` of the sum of absolute values, in any order (N. J. Higham, "Accuracy and Stability
    of Numerical Algorithms", 2nd ed., section 3.1: `gamma_n < n eps` with the unit roundoff
    `eps / 2`, if `n eps < 1`).
    """
    import ml_dtypes

    eps = float(ml_dtypes.finfo(actual.dtype).eps)
    assert terms * eps < 1
    actual = np.asarray(actual, np.float64)
    assert actual.shape == oracle.shape, where
    bound = terms * eps * magnitude + np.finfo(np.float64).tiny
    np.testing.assert_array_less(np.abs(actual - oracle), bound, err_msg=where)


# For each mode of an end between walls: how many points outside the grid the wall is, and
# whether the field is odd about it.
WALLS = {
    "neumann": (0.0, False),
    "neumann_cell": (0.5, False),
    "dirichlet_cell": (0.5, True),
    "dirichlet_node": (1.0, True),
    "dirichlet": (1.0, True),
    "outflow": (0.5, False),
}
WALL_ENDS = tuple(itertools.product(WALLS, WALLS))


def wall_points(size, ends):
    """Computes the places of the grid's points, from 0 at the lower wall to 1 at the upper one."""
    lower, upper = (WALLS[end][0] for end in ends)
    length = size - 1 + lower + upper
    return (np.arange(size) + lower) / (length if length > 0 else 1.0)


def wall_frequency(k, ends):
    """Counts the half waves of function `k` between the walls."""
    lower, upper = (WALLS[end][1] for end in ends)
    return k + {0: 0.0, 1: 0.5, 2: 1.0}[lower + upper]


def wall_function(k, t, ends, derivative=0):
    """Evaluates function `k` of an axis between walls, or its derivative, at the places `t`."""
    rate = np.pi * wall_frequency(k, ends)
    # Sine, cosine, - sine, - cosine; a cosine is the derivative of a sine.
    order = (0 if WALLS[ends[0]][1] else 1) + derivative
    value = np.cos(rate * t) if order % 2 else np.sin(rate * t)
    return (-1) ** (order // 2) * rate**derivative * value


def wall_functions(size, ends, count):
    """Evaluates functions `0..count-1` at the points of the grid, one in each column."""
    points = wall_points(size, ends)
    return np.stack([wall_function(k, points, ends) for k in range(count)], axis=1)


def kept_modes(num_modes, ends=None):
    """Lists every kept mode with the place of its weights: pairs `(wavenumbers, (group, *index))`.
    On an axis between walls, the number of the function takes the place of the wavenumber.
    """
    ends = [("periodic",) * 2] * len(num_modes) if ends is None else ends
    full = [axis for axis, pair in enumerate(ends) if pair[0] == "periodic"][:-1]
    for group in range(2 ** len(full)):
        for index in np.ndindex(*num_modes):
            wavenumbers = list(index)
            for bit, axis in enumerate(full):
                if group >> bit & 1:
                    wavenumbers[axis] -= num_modes[axis]
            yield tuple(wavenumbers), (group, *index)


def spectral_convolution(x, weights_real, weights_imag, ends=None, output_shape=None):
    """Sums `y[j'] = 1/N sum over kept k of c_k Re(W_k X_k exp(2 pi i k.j'/N'))` term by term. On an
    axis between walls, `X_k / N` is the coefficient of function `k` in the expansion into all
    functions, and the wave is that function.

    The second result bounds the magnitude of every output, from the sums of absolute values.
    """
    x = np.asarray(x, np.float64)
    weights = np.asarray(weights_real, np.float64)
    if weights_imag is not None:
        weights = weights + 1j * np.asarray(weights_imag, np.float64)
    spatial, num_modes = x.shape[1:], weights.shape[3:]
    ends = [("periodic",) * 2] * len(spatial) if ends is None else ends
    output_shape = spatial if output_shape is None else output_shape
    periodic = [axis for axis, pair in enumerate(ends) if pair[0] == "periodic"]

    expansions = {
        axis: np.linalg.inv(wall_functions(n, ends[axis], n))
        for axis, n in enumerate(spatial)
        if axis not in periodic
    }

    def sums(axis, k):
        """Gives the numbers by which the points are multiplied to give the coefficient."""
        n = spatial[axis]
        if axis in periodic:
            return np.exp(-2j * np.pi * k * np.arange(n) / n) / n
        return expansions[axis][k]

    def wave(axis, k):
        n = output_shape[axis]
        if axis in periodic:
            return np.exp(2j * np.pi * k * np.arange(n) / n)
        return wall_function(k, wall_points(n, ends[axis]), ends[axis])

    y, bound = np.zeros((weights.shape[1], *output_shape)), 0.0
    for wavenumbers, (group, *index) in kept_modes(num_modes, ends):
        coefficient, magnitude, waves = x, np.abs(x), np.ones(())
        for axis, k in enumerate(wavenumbers):
            coefficient = np.tensordot(coefficient, sums(axis, k), (1, 0))
            magnitude = np.tensordot(magnitude, np.abs(sums(axis, k)), (1, 0))
            waves = np.multiply.outer(waves, wave(axis, k))
        weight = weights[(group, slice(None), slice(None), *index)]
        last = periodic[-1] if periodic else None
        count = 2 if periodic and 0 < 2 * wavenumbers[last] < spatial[last] else 1
        y += count * np.real(np.multiply.outer(weight @ coefficient, waves))
        bound = bound + count * np.abs(weight) @ magnitude
    return y, float(np.max(bound))


def waves(ends, size, count):
    """Evaluates the waves that `count` points of an axis can hold, at `size` points: one wave in
    each column. The last wave of an even number of points on a ring is the cosine that alternates
    from point to point.
    """
    if ends[0] != "periodic":
        return wall_functions(size, ends, count)
    t = 2 * np.pi * np.arange(size) / size
    columns = [np.ones(size)]
    for k in range(1, (count + 1) // 2):
        columns += [np.cos(k * t), np.sin(k * t)]
    if count % 2 == 0:
        columns.append(np.cos(count // 2 * t))
    return np.stack(columns, axis=1)


def resampling(ends, size, to_size):
    """Gives the matrix from a field on `size` points to `to_size`. It expands the field into all
    waves of its grid, and evaluates those that both grids hold. If the coarser grid has an even
    number of points, its last wave is one of two with the same wavenumber on a finer grid; the sine
    is 0 at all points of the coarser one.
    """
    both = min(size, to_size)
    expansion = np.linalg.inv(waves(ends, size, size))[:both]
    return waves(ends, to_size, both) @ expansion
