"""Real spherical harmonics and constants computed from them, in numpy and float64.

Conventions are those of e3nn: y is the polar axis, and the coefficient of degree l and order m is
number l² + l + m. A function of order m > 0 goes like cos(m a), of order -m like sin(m a), where a
is the angle about y with x = s sin(a), z = s cos(a).
"""

import math
from functools import cache

import numpy as np


def degrees(lmax: int) -> np.ndarray:
    """[(lmax + 1)²] degree l of every coefficient."""
    return np.repeat(np.arange(lmax + 1), 2 * np.arange(lmax + 1) + 1)


def orders(lmax: int) -> np.ndarray:
    """[(lmax + 1)²] order m of every coefficient."""
    return np.concatenate([np.arange(-degree, degree + 1) for degree in range(lmax + 1)])


def rows_by_order(lmax: int, mmax: int) -> np.ndarray:
    """Coefficients of order |m| <= mmax as SO(2) convolutions take them.

    First order 0 with all degrees, then order 1 with all degrees, order -1, order 2, and so on.
    """
    rows = [degree * degree + degree for degree in range(lmax + 1)]
    for m in range(1, mmax + 1):
        for sign in (1, -1):
            rows += [degree * degree + degree + sign * m for degree in range(m, lmax + 1)]
    return np.array(rows)


def spherical_harmonics(unit: np.ndarray, lmax: int) -> np.ndarray:
    """Real harmonics whose square has the mean 1 over the sphere ("component" of e3nn).

    Args:
        unit: [..., 3] unit vectors.
        lmax: highest degree.

    Returns:
        [..., (lmax + 1)²].
    """
    x, y, z = np.moveaxis(np.asarray(unit, np.float64), -1, 0)
    values = np.empty((*x.shape, (lmax + 1) ** 2))
    azimuth = np.ones_like(x, dtype=np.complex128)  # (s e^{ia})^m
    for m in range(lmax + 1):
        # P_l^m / s^m by the recurrence in l, from (2m - 1)!! at l = m.
        below, legendre = np.zeros_like(y), np.full_like(y, math.prod(range(1, 2 * m, 2)))
        for degree in range(m, lmax + 1):
            if degree > m:
                step = (2 * degree - 1) * y * legendre - (degree + m - 1) * below
                below, legendre = legendre, step / (degree - m)
            square = (2 * degree + 1) * math.factorial(degree - m) / math.factorial(degree + m)
            scale = math.sqrt(square * (1 if m == 0 else 2))
            centre = degree * degree + degree
            values[..., centre + m] = scale * legendre * azimuth.real
            if m:
                values[..., centre - m] = scale * legendre * azimuth.imag
        azimuth = azimuth * (z + 1j * x)
    return values


def wigner(rotation: np.ndarray, lmax: int) -> np.ndarray:
    """Matrix D with Y(R x) = D Y(x), by quadrature over the sphere.

    Args:
        rotation: [3, 3] proper rotation R.
        lmax: highest degree.

    Returns:
        [(lmax + 1)², (lmax + 1)²], block diagonal.
    """
    points, weights = _quadrature(lmax)
    rotated = spherical_harmonics(points @ np.asarray(rotation).T, lmax)
    matrix = (rotated * weights[:, None]).T @ spherical_harmonics(points, lmax)
    return np.where(degrees(lmax)[:, None] == degrees(lmax), matrix, 0)


def _quadrature(lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [P, 3] and weights [P] that average products of two harmonics exactly."""
    y, weights = np.polynomial.legendre.leggauss(lmax + 1)
    a = 2 * np.pi * np.arange(2 * lmax + 1) / (2 * lmax + 1)
    s = np.sqrt(1 - y * y)[:, None]
    points = np.stack(np.broadcast_arrays(s * np.sin(a), y[:, None], s * np.cos(a)), axis=-1)
    return points.reshape(-1, 3), np.repeat(weights / 2 / len(a), len(a))


@cache
def tilt_series(lmax: int) -> np.ndarray:
    """Fourier series of D for a rotation by θ about x, which tilts y towards z.

    Returns:
        [2 lmax + 1, (lmax + 1)², (lmax + 1)²] coefficients of 1, cos θ, ..., cos(lmax θ), sin θ,
        ..., sin(lmax θ).
    """
    count = 2 * lmax + 1
    theta = 2 * np.pi * np.arange(count) / count
    samples = np.stack([wigner(_about_x(angle), lmax) for angle in theta])
    k = np.arange(lmax + 1)
    cosines = np.cos(k[:, None] * theta) * np.where(k == 0, 1, 2)[:, None] / count
    sines = np.sin(k[1:, None] * theta) * 2 / count
    series = np.tensordot(np.concatenate([cosines, sines]), samples, axes=1)
    return np.where(np.abs(series) < 1e-14, 0, series)


def _about_x(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@cache
def grid_matrices(lmax: int, mmax: int, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices to and from values on a grid over the sphere, as the original defines them.

    Polar angles are (i + 1/2) π / n with the weights of Kostelec and Rockmore ("FFTs on the
    rotation group", 2008), azimuths 2π j / n. Where orders are cut at mmax, both matrices weigh
    degrees above it by sqrt((2l + 1) / (2 mmax + 1)): a quirk of the original that its weights
    were trained with, so that the two are inverse to each other only up to degree mmax.

    Args:
        lmax: highest degree.
        mmax: highest order.
        resolution: even number n of points along each angle.

    Returns:
        [n², coefficients] to the grid, [coefficients, n²] from it; the coefficients are all those
        of order up to mmax, by degree.
    """
    n = resolution
    polar = (np.arange(n) + 0.5) * np.pi / n
    azimuth = 2 * np.pi * np.arange(n) / n
    sine = np.sin(polar)[:, None]
    points = np.stack(
        np.broadcast_arrays(sine * np.sin(azimuth), np.cos(polar)[:, None], sine * np.cos(azimuth)),
        axis=-1,
    )
    degree = degrees(lmax)
    norm = np.sqrt((2 * degree + 1) * (lmax + 1.0)) / degree_weights(lmax, mmax)
    harmonics = spherical_harmonics(points, lmax)
    to_grid = harmonics / norm
    weights = polar_weights(n)[:, None, None]
    from_grid = harmonics * norm * degree_weights(lmax, mmax) ** 2 * weights
    kept = np.abs(orders(lmax)) <= mmax
    return to_grid.reshape(n * n, -1)[:, kept], from_grid.reshape(n * n, -1)[:, kept].T


def polar_weights(resolution: int) -> np.ndarray:
    """[n] quadrature weights of the polar angles of the grid, over the number of azimuths."""
    polar = (np.arange(resolution) + 0.5) * np.pi / resolution
    odd = 2 * np.arange(resolution // 2) + 1
    weights = np.sin(polar) * (np.sin(polar[:, None] * odd) / odd).sum(axis=1)
    # The sum of the weights is 1; the original divides by the number of azimuths here.
    return weights / weights.sum() / resolution


def degree_weights(lmax: int, mmax: int) -> np.ndarray:
    """[(lmax + 1)²] sqrt((2l + 1) / (2 mmax + 1)) above degree mmax, 1 up to it."""
    degree = degrees(lmax)
    return np.where(degree > mmax, np.sqrt((2 * degree + 1) / (2 * mmax + 1)), 1.0)
