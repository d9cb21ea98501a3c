"""Edge frames: the rotation of every edge onto the y axis, as Wigner matrices of the features.

A frame R with R u = y for the unit vector u of an edge is a rotation about y, which brings u into
the plane x = 0, followed by one about x, which tilts it onto y; so D(R) is a Fourier series in the
tilt times a diagonal of cosines and sines. Both come from the components of u by multiplication,
without angles. Where u is nearer to the poles of this construction than 45°, the axes are renamed
first (x, y, z → y, z, x), so that the frame of every direction, and its derivative, is as
accurate as that of any other. No frame depends on anything but the direction.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from atomjax.models.equiformer_v2.harmonics import orders, rows_by_order, tilt_series, wigner
from atomjax.ops import safe_normalize

# Renames the axes: (x, y, z) → (y, z, x), a rotation.
_RENAME = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])


@struct.dataclass
class EdgeGeometry:
    """Geometry of the main edges, as layers read it.

    Attributes:
        distance: [E] Å; 0 for padding edges.
        wigner: [E, rows, (lmax + 1)²] from features to the rows of order up to mmax in the frame
            of the edge, in the order of ``rows_by_order``.
    """

    distance: jax.Array
    wigner: jax.Array


def edge_geometry(
    vector: jax.Array, lmax: int, mmax: int, frames: jax.Array | None = None
) -> EdgeGeometry:
    """Distances and frames of edges.

    Args:
        vector: [E, 3] Å; zero vectors get some frame.
        lmax: highest degree of the features.
        mmax: highest order of the rows.
        frames: [E, 3, 3] rotations that bring each vector onto y; by default those that depend on
            the direction alone.
    """
    unit, distance = safe_normalize(vector)
    unit = jnp.where(distance[:, None] > 0, unit, jnp.asarray([0, 1, 0], unit.dtype))
    near_pole = unit[:, 1] ** 2 > 0.5
    turned = jnp.where(near_pole[:, None], jnp.roll(unit, -1, axis=1), unit)
    cos_tilt, sin_tilt, cos_turn, sin_turn = _angles(turned)
    matrix = _tilt_and_turn(cos_tilt, sin_tilt, cos_turn, sin_turn, lmax, mmax)
    rename = jnp.asarray(wigner(_RENAME, lmax), matrix.dtype)
    matrix = jnp.where(near_pole[:, None, None], matrix @ rename, matrix)
    if frames is not None:
        plain = _rotations(cos_tilt, sin_tilt, cos_turn, sin_turn)
        plain = jnp.where(near_pole[:, None, None], plain @ _RENAME.astype(unit.dtype), plain)
        roll = jnp.einsum("eij,ekj->eik", frames.astype(unit.dtype), plain)
        matrix = _rolled(matrix, roll[:, 0, 0], roll[:, 0, 2], lmax, mmax)
    return EdgeGeometry(distance=distance, wigner=matrix)


def _angles(unit: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Cosine and sine of the tilt about x and of the turn about y that bring ``unit`` onto y."""
    x, y, z = unit[:, 0], unit[:, 1], unit[:, 2]
    s = jnp.sqrt(x * x + z * z)
    return y, -s, z / s, -x / s


def _multiples(cosine: jax.Array, sine: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """[E, count + 1] cosines and sines of 0, 1, ..., count times an angle."""
    cosines, sines = [jnp.ones_like(cosine)], [jnp.zeros_like(sine)]
    for _ in range(count):
        c, s = cosines[-1], sines[-1]
        cosines.append(c * cosine - s * sine)
        sines.append(s * cosine + c * sine)
    return jnp.stack(cosines, axis=1), jnp.stack(sines, axis=1)


def _tilt_and_turn(
    cos_tilt: jax.Array, sin_tilt: jax.Array, cos_turn: jax.Array, sin_turn: jax.Array,
    lmax: int, mmax: int,
) -> jax.Array:  # fmt: skip
    """[E, rows, (lmax + 1)²] rows of D(tilt) D(turn)."""
    rows, order = rows_by_order(lmax, mmax), orders(lmax)
    cosines, sines = _multiples(cos_tilt, sin_tilt, lmax)
    basis = jnp.concatenate([cosines, sines[:, 1:]], axis=1)
    series = tilt_series(lmax)[:, rows]
    # A turn mixes the columns m and -m: column j of the product takes from j and its mirror.
    mirror = np.arange(len(order)) - 2 * order
    tilt, mirrored = (
        jnp.tensordot(basis, jnp.asarray(part, basis.dtype), axes=1)
        for part in (series, series[:, :, mirror])
    )
    cosines, sines = _multiples(cos_turn, sin_turn, lmax)
    cosines = cosines[:, np.abs(order)]
    sines = sines[:, np.abs(order)] * np.sign(order).astype(basis.dtype)
    return tilt * cosines[:, None] + mirrored * sines[:, None]


def _rotations(
    cos_tilt: jax.Array, sin_tilt: jax.Array, cos_turn: jax.Array, sin_turn: jax.Array
) -> jax.Array:
    """[E, 3, 3] the frames themselves."""
    zero, one = jnp.zeros_like(cos_tilt), jnp.ones_like(cos_tilt)
    tilt = [[one, zero, zero], [zero, cos_tilt, -sin_tilt], [zero, sin_tilt, cos_tilt]]
    turn = [[cos_turn, zero, sin_turn], [zero, one, zero], [-sin_turn, zero, cos_turn]]
    tilt, turn = (jnp.stack([jnp.stack(row, -1) for row in m], -2) for m in (tilt, turn))
    return tilt @ turn


def _rolled(
    matrix: jax.Array, cosine: jax.Array, sine: jax.Array, lmax: int, mmax: int
) -> jax.Array:
    """The frames turned about y afterwards, by an angle given as cosine and sine [E]."""
    rows = rows_by_order(lmax, mmax)
    order = orders(lmax)[rows]
    mirror = np.argsort(rows)[np.searchsorted(np.sort(rows), rows - 2 * order)]
    cosines, sines = _multiples(cosine, sine, mmax)
    cosines = cosines[:, np.abs(order), None]
    sines = (sines[:, np.abs(order)] * np.sign(order).astype(matrix.dtype))[..., None]
    return matrix * cosines - matrix[:, mirror] * sines
