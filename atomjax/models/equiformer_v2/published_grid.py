"""Grid matrices to the last bit as the published checkpoints hold them.

The original computes them in float32, with errors of a few 1e-7 that are in its float64 outputs
too. Nothing but a comparison to more than six digits needs them; ``harmonics.grid_matrices`` is
exact. The arithmetic is that of e3nn's ``ToS2Grid`` and ``FromS2Grid``: polynomials of Legendre in
the cosine and sine of the polar angle, times sines and cosines of the azimuth.
"""

import math
from functools import cache

import numpy as np

from atomjax.models.equiformer_v2.harmonics import degree_weights, degrees, orders, polar_weights

RESOLUTION = 18  # that of every published checkpoint

_F = np.float32

# Where PyTorch's sine and cosine of the azimuths, times m, are not the nearest float32 but one
# next to it: (function, m) → {number of the azimuth: direction}.
_AZIMUTH_ROUNDING = {
    ("sin", 1): {3: -1},
    ("sin", 3): {1: -1},
    ("cos", 1): {7: 1},
    ("cos", 2): {10: -1, 16: 1},
    ("cos", 3): {16: -1},
    ("cos", 4): {5: -1, 8: 1, 12: -1, 14: -1},
    ("cos", 5): {4: -1},
    ("cos", 6): {8: -1, 11: -1},
}
_POLAR_SINE_ROUNDING = {8: -1}

# By how many float32 its quadrature weights are off, one for each polar angle.
_WEIGHT_ROUNDING = (0, -1, 0, 2, 2, 0, 0, -2, 0, -1, 1, -1, -2, -3, 5, 5, -2, -28)


@cache
def published_grid_matrices(lmax: int, mmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices of ``harmonics.grid_matrices`` for the published resolution, as the original rounds.

    Args:
        lmax: highest degree, at most 6.
        mmax: highest order.

    Raises:
        ValueError: lmax is above that of any published checkpoint.
    """
    if lmax > 6:
        raise ValueError(f"no published grid has lmax={lmax} (at most 6): use exact_grid=True")
    polar = (np.arange(RESOLUTION, dtype=_F) + _F(0.5)) / _F(RESOLUTION) * _F(math.pi)
    cosine = np.cos(polar, dtype=np.float64).astype(_F)
    sine = _adjusted(np.sin(polar, dtype=np.float64).astype(_F), _POLAR_SINE_ROUNDING)
    legendre = np.stack(
        [
            _legendre(degree, abs(m), cosine, sine)
            for degree, m in zip(degrees(lmax), orders(lmax), strict=True)
        ],
        axis=1,
    )
    azimuth = _azimuth_functions(lmax)[:, lmax + orders(lmax)]
    full, root = _F(math.sqrt(4 * math.pi)), _F(math.sqrt(lmax + 1))
    norm = np.array([math.sqrt(2 * degree + 1) for degree in degrees(lmax)])
    to_polar = legendre * (full * (1 / norm).astype(_F) / root)
    weights = _adjusted(polar_weights(RESOLUTION).astype(_F), dict(enumerate(_WEIGHT_ROUNDING)))
    from_polar = legendre * weights[:, None] * (full * norm.astype(_F) * root)
    weight = degree_weights(lmax, mmax).astype(_F)
    kept = np.abs(orders(lmax)) <= mmax
    to_grid, from_grid = (
        (part[:, None] * azimuth * weight)[..., kept].reshape(RESOLUTION**2, -1)
        for part in (to_polar, from_polar)
    )
    return to_grid.astype(np.float64), from_grid.astype(np.float64).T


def _adjusted(values: np.ndarray, steps: dict[int, int]) -> np.ndarray:
    """``values`` with some entries moved by so many float32."""
    values = values.copy()
    for place, count in steps.items():
        for _ in range(abs(count)):
            values[place] = np.nextafter(values[place], _F(math.copysign(math.inf, count)))
    return values


def _legendre(degree: int, m: int, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Normalised associated Legendre function as a sum of monomials, lowest power first."""
    # (z² - 1)^l, differentiated l + m times.
    power = np.zeros(2 * degree + 1)
    power[::2] = [math.comb(degree, k) * (-1) ** (degree - k) for k in range(degree + 1)]
    coefficients = np.polynomial.polynomial.polyder(power, degree + m)
    square = (2 * degree + 1) / (4 * math.pi)
    square *= math.factorial(degree - m) / math.factorial(degree + m)
    scale = math.sqrt(square) / (2**degree * math.factorial(degree))
    total = np.zeros_like(cosine)
    for k in np.flatnonzero(coefficients).tolist():
        total = total + _F(coefficients[k] * scale) * _power(cosine, k) * _power(sine, m)
    return total


def _power(x: np.ndarray, exponent: int) -> np.ndarray:
    """Products for small exponents, correctly rounded for others, as PyTorch does."""
    if exponent == 3:
        return x * x * x
    return (x.astype(np.float64) ** exponent).astype(_F)


def _azimuth_functions(lmax: int) -> np.ndarray:
    """[azimuth, 2 lmax + 1] √2 sin(m a) from m = lmax down to 1, then 1, then √2 cos(m a)."""
    a = np.arange(RESOLUTION, dtype=_F) / _F(RESOLUTION) * _F(2) * _F(math.pi)

    def column(name: str, m: int) -> np.ndarray:
        exact = getattr(np, name)((_F(m) * a).astype(np.float64)).astype(_F)
        return _F(math.sqrt(2)) * _adjusted(exact, _AZIMUTH_ROUNDING.get((name, m), {}))

    sines = [column("sin", m) for m in range(lmax, 0, -1)]
    cosines = [column("cos", m) for m in range(1, lmax + 1)]
    return np.stack([*sines, np.ones_like(a), *cosines], axis=1)
