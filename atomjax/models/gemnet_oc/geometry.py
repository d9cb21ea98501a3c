"""Distances and angles of a batch, once per step, in the dense neighbour-slot layout.

Names follow the papers: an edge c→a is updated; b→a is another edge into a; d→b an edge into b.
"""

import jax
import jax.numpy as jnp
from flax import struct

from atomjax.graphs.batch import AtomToEdgeGraph, GraphBatch, QuadrupletGraph, Tiers
from atomjax.ops import rows, safe_normalize, take, to_slots, to_tiers


@struct.dataclass
class Triplets:
    """Angles between the main edges (slots K) and the a2ee2a edges (slots J) of a tier of atoms.

    Attributes:
        cosine: [N_t, K, J] cosine of the angle at the atom.
        mask: [N_t, K, J] false where both are the same edge.
    """

    cosine: jax.Array
    mask: jax.Array


@struct.dataclass
class Quadruplets:
    """Angles of c→a←b←d, over the atoms a (Q) and their middle edges b→a (slots B).

    Attributes:
        distance: [Q, B] Å, of the middle edges.
        cosine_abd: [Q, B, K] at b, to each edge d→b.
        cosine_cab: [Q, B, K] at a, to each edge c→a.
        cosine_dihedral: [Q, B, K, K] of the half dihedral between c (first K) and d (second).
        mask_d: [Q, B, K] false where d is a itself.
        mask_c: [Q, B, K] false where c is b.
        mask_cd: [Q, B, K, K] false where c and d are the same image of the same atom.
    """

    distance: jax.Array
    cosine_abd: jax.Array
    cosine_cab: jax.Array
    cosine_dihedral: jax.Array
    mask_d: jax.Array
    mask_c: jax.Array
    mask_cd: jax.Array


@struct.dataclass
class Geometry:
    """All distances and angles that the model reads; None for interactions that are off.

    Attributes:
        distance: [E] Å, of the main edges.
        unit: [E, 3] unit vectors of the main edges.
        cosine_e2e: [N_t, K, K] between the main edges into each atom, for every tier of atoms.
        a2ee2a_distance: [A] Å.
        a2ee2a: angles between main and a2ee2a edges, for every tier.
        a2a_distance: [N, P] Å.
        quadruplets: angles of quadruplets.
    """

    distance: jax.Array
    unit: jax.Array
    cosine_e2e: list[jax.Array]
    a2ee2a_distance: jax.Array | None
    a2ee2a: list[Triplets] | None
    a2a_distance: jax.Array | None
    quadruplets: Quadruplets | None


def slot_senders(batch: GraphBatch, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sender and image code of the main edge in each slot; senders N where empty."""
    num_atoms = batch.node_graph.shape[0]
    return rows(batch.senders, index, num_atoms), rows(batch.edge_images, index)


def compute_geometry(batch: GraphBatch, with_quadruplets: bool) -> Geometry:
    """Distances and angles of every interaction graph that the batch carries.

    Args:
        batch: the batch.
        with_quadruplets: also the angles of quadruplets; a model without them would trace and
            compile much that it does not use.
    """
    unit, distance = safe_normalize(batch.edge_vectors)
    tiers = batch.tiers
    assert tiers is not None  # the backbone has checked that the graph is symmetric
    units = to_tiers(unit, tiers.main)
    ae_distance = triplets = None
    if (ae := batch.a2ee2a) is not None:
        ae_unit, ae_distance = safe_normalize(ae.vector)
        triplets = triplet_geometry(batch, ae, tiers, units, ae_unit)
    a2a_distance = None if batch.a2a is None else safe_normalize(batch.a2a.vector)[1]
    quadruplets = None
    if with_quadruplets and batch.quadruplets is not None:
        ends = slot_senders(batch, batch.slots.index)
        quadruplets = quadruplet_geometry(batch.quadruplets, to_slots(unit, batch.slots), *ends)
    return Geometry(
        distance=distance,
        unit=unit,
        cosine_e2e=[jnp.einsum("nkx,njx->nkj", tier, tier) for tier in units],
        a2ee2a_distance=ae_distance,
        a2ee2a=triplets,
        a2a_distance=a2a_distance,
        quadruplets=quadruplets,
    )


def triplet_geometry(
    batch: GraphBatch,
    graph: AtomToEdgeGraph,
    tiers: Tiers,
    units: list[jax.Array],
    ae_unit: jax.Array,
) -> list[Triplets]:
    """Angles between the main and the a2ee2a edges into each atom, for every tier of atoms.

    Args:
        batch: the batch, for its main edges.
        graph: the a2ee2a graph.
        tiers: tiers of the atoms, with slots of both graphs.
        units: [N_t, K, 3] unit vectors of the main edges in the slots of each tier.
        ae_unit: [A, 3] unit vectors of the a2ee2a edges.
    """
    assert tiers.a2ee2a is not None  # as there is a graph
    triplets = []
    slots = zip(tiers.main.index, tiers.a2ee2a.index, strict=True)
    for (main, other), unit, ae in zip(slots, units, to_tiers(ae_unit, tiers.a2ee2a), strict=True):
        senders, image = slot_senders(batch, main)
        ae_senders, ae_image = rows(graph.senders, other), rows(graph.image, other)
        same = (senders[:, :, None] == ae_senders[:, None]) & (
            image[:, :, None] == ae_image[:, None]
        )
        triplets.append(Triplets(cosine=jnp.einsum("nkx,njx->nkj", unit, ae), mask=~same))
    return triplets


def quadruplet_geometry(
    graph: QuadrupletGraph, unit_NK: jax.Array, senders_NK: jax.Array, image_NK: jax.Array
) -> Quadruplets:
    """Angles and exclusions of the quadruplets.

    Args:
        graph: middle edges.
        unit_NK: [N, K, 3] unit vectors of the main edges in their slots.
        senders_NK: [N, K] their senders.
        image_NK: [N, K] their image codes.
    """
    num_atoms = senders_NK.shape[0]
    ba, distance = safe_normalize(graph.vector)
    ca = take(unit_NK, graph.atom, graph.inverse[:, None])  # [Q, K, 3]
    db = take(unit_NK, graph.senders, graph.reverse)  # [Q, B, K, 3]

    c, d = rows(senders_NK, graph.atom, num_atoms), rows(senders_NK, graph.senders, num_atoms)
    image_c, image_d = rows(image_NK, graph.atom), rows(image_NK, graph.senders)
    image_d = image_d + graph.image[..., None]  # the image of d as seen from a
    same_cd = (c[:, None, :, None] == d[:, :, None]) & (
        image_c[:, None, :, None] == image_d[:, :, None]
    )
    return Quadruplets(
        distance=distance,
        cosine_abd=jnp.einsum("qbx,qbkx->qbk", ba, db),
        cosine_cab=jnp.einsum("qbx,qkx->qbk", ba, ca),
        cosine_dihedral=half_dihedral_cosine(
            jnp.cross(ca[:, None], ba[:, :, None]), jnp.cross(db, ba[:, :, None])
        ),
        mask_d=(d != graph.atom[:, None, None]) | (image_d != 0),
        mask_c=(c[:, None] != graph.senders[..., None])
        | (image_c[:, None] != graph.image[..., None]),
        mask_cd=~same_cd,
    )


def half_dihedral_cosine(u: jax.Array, v: jax.Array) -> jax.Array:
    """Cosine of the angle between normals, defined as 0 where an edge is collinear with b→a.

    Equals cos(atan2(max(|u × v|, 1e-9), u · v)), the form of the original, without angles or cross
    products of every pair. Where a normal vanishes the dihedral does not exist and the original
    returns rounding noise about π/2; here it is exactly π/2, with zero derivative.

    Args:
        u: [Q, B, K, 3] normals c→a × b→a.
        v: [Q, B, K, 3] normals d→b × b→a.

    Returns:
        [Q, B, K, K] cosines.
    """
    uu = jnp.sum(u * u, -1)[..., :, None]
    vv = jnp.sum(v * v, -1)[..., None, :]
    uv = jnp.einsum("qbkx,qbjx->qbkj", u, v)
    # Normals of unit vectors carry an error of a few eps; far above it, far below any real angle.
    threshold = float(jnp.finfo(u.dtype).eps) ** 1.5
    degenerate = (uu < threshold) | (vv < threshold)
    square = jnp.maximum(uu * vv, uv * uv + 1e-18)
    return jnp.where(degenerate, 0, uv * jax.lax.rsqrt(jnp.where(degenerate, 1, square)))
