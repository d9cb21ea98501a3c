"""Shared basis embeddings: everything that depends on geometry alone, once for all blocks.

The original contracts radial weights, angular basis and messages in every block. Only the messages
change between blocks, so the first two are contracted here into one kernel per interaction, laid
out so that a block's sum over neighbours is a batched matrix product without index arrays:

    triplets       kernel[n, k, i, j]: main edge k into atom n, neighbour j, channel i
    edge to atom   kernel[n, i, k]:    already summed over the outgoing a2ee2a edges
                   (both for each tier of atoms, see ``atomjax.graphs.tiers``)
    atom to atom   kernel[n, i, p]
    quadruplets    outer[q, k, i, b, l] and inner[q, b, k, l, j]: the dihedral basis is an outer
                   product, so the sum over d (j) is done before the sum over b
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from atomjax.graphs.batch import GraphBatch
from atomjax.models.bases import circular_basis, radial_basis
from atomjax.models.gemnet_oc.config import GemNetOCConfig
from atomjax.models.gemnet_oc.geometry import Geometry
from atomjax.models.initializers import he_orthogonal_angular
from atomjax.models.layers import Dense
from atomjax.ops import product, take, to_slots, to_tiers


@struct.dataclass
class TripletBasis:
    """Radial embedding of the incoming edges and angular kernels of one triplet interaction.

    The kernels are those of the tiers of atoms.
    """

    radial: jax.Array
    kernels: list[jax.Array]


@struct.dataclass
class QuadrupletBasis:
    """Bases of the quadruplets.

    Attributes:
        radial: [E, emb_size_rbf] of the edges d→b.
        circular: [Q, B, K, emb_size_cbf] of the angles d→b→a.
        outer: [Q, K, emb_size_sbf, B, L] of the edges c→a and the angles c→a←b.
        inner: [Q, B, K, L, K] of the dihedrals between c and d.
    """

    radial: jax.Array
    circular: jax.Array
    outer: jax.Array
    inner: jax.Array


@struct.dataclass
class Bases:
    """All bases of a batch; None for interactions that are off."""

    radial: jax.Array
    atom_update: jax.Array
    output: jax.Array
    edge_to_edge: TripletBasis
    atom_to_edge: TripletBasis | None
    edge_to_atom: TripletBasis | None
    atom_to_atom: jax.Array | None
    quadruplets: QuadrupletBasis | None


class AngularEmbedding(nn.Module):
    """Radial basis times a weight for every degree: [..., R] → [..., I, L]."""

    features: int
    num_spherical: int

    @nn.compact
    def __call__(self, radial: jax.Array) -> jax.Array:
        """[..., R] → [..., I, L]."""
        shape = (radial.shape[-1], self.features, self.num_spherical)
        kernel = self.param("kernel", he_orthogonal_angular, shape).astype(radial.dtype)
        return (radial @ kernel.reshape(shape[0], -1)).reshape(*radial.shape[:-1], *shape[1:])


class BasisEmbedding(nn.Module):
    """Embeds distances and angles for all interactions (``bases`` of the original)."""

    config: GemNetOCConfig

    def setup(self):
        """Layers of the interactions that are on."""
        c = self.config
        dense = partial(Dense, c.emb_size_rbf, dropout=c.dropout)
        self.rbf_tint, self.rbf_h = dense(name="mlp_rbf_tint"), dense(name="mlp_rbf_h")
        self.rbf_out = dense(name="mlp_rbf_out")
        self.cbf_tint = AngularEmbedding(c.emb_size_cbf, c.num_spherical, name="mlp_cbf_tint")
        if c.atom_edge_interaction:
            self.rbf_aeint = dense(name="mlp_rbf_aeint")
            self.cbf_aeint = AngularEmbedding(c.emb_size_cbf, c.num_spherical, name="mlp_cbf_aeint")
        if c.edge_atom_interaction:
            self.rbf_eaint = dense(name="mlp_rbf_eaint")
            self.cbf_eaint = AngularEmbedding(c.emb_size_cbf, c.num_spherical, name="mlp_cbf_eaint")
        if c.atom_interaction:
            self.rbf_aint = Dense(c.emb_size_rbf, name="mlp_rbf_aint")
        if c.quad_interaction:
            self.rbf_qint = dense(name="mlp_rbf_qint")
            self.cbf_qint = AngularEmbedding(c.emb_size_cbf, c.num_spherical, name="mlp_cbf_qint")
            self.sbf_qint = AngularEmbedding(
                c.emb_size_sbf, c.num_spherical**2, name="mlp_sbf_qint"
            )

    def __call__(self, batch: GraphBatch, geometry: Geometry) -> Bases:
        """Bases of every interaction that the configuration switches on."""
        c = self.config
        radial = self.radial(geometry.distance, "main")
        return Bases(
            radial=radial,
            atom_update=self.rbf_h(radial),
            output=self.rbf_out(radial),
            edge_to_edge=self.edge_to_edge(batch, geometry, radial),
            atom_to_edge=(
                self.atom_to_edge(batch, geometry, radial) if c.atom_edge_interaction else None
            ),
            edge_to_atom=(
                self.edge_to_atom(batch, geometry, radial) if c.edge_atom_interaction else None
            ),
            atom_to_atom=self.atom_to_atom(geometry) if c.atom_interaction else None,
            quadruplets=(self.quadruplets(batch, geometry, radial) if c.quad_interaction else None),
        )

    def radial(self, distance: jax.Array, graph: str) -> jax.Array:
        """Raw radial basis of the edges of one graph, ``distance.shape + (R,)``."""
        c = self.config
        return radial_basis(distance, c.num_radial, c.basis_cutoff(graph), c.envelope_exponent)

    def angles(self, cosine: jax.Array, axis: int = -1) -> jax.Array:
        """Circular basis with its degrees on a new ``axis``."""
        return circular_basis(cosine, self.config.num_spherical, axis)

    def edge_to_edge(self, batch: GraphBatch, geometry: Geometry, radial: jax.Array):
        """Kernels [N_t, K, I, K] of b→a←c over main edges; an edge does not meet itself."""
        weights = to_tiers(self.cbf_tint(radial), _present(batch.tiers).main)
        kernels = []
        for weight, cosine in zip(weights, geometry.cosine_e2e, strict=True):
            different = ~jnp.eye(cosine.shape[-1], dtype=bool)
            angles = jnp.where(different[:, None], self.angles(cosine, -2), 0)
            kernels.append(product(weight, angles))
        return TripletBasis(radial=self.rbf_tint(radial), kernels=kernels)

    def atom_to_edge(self, batch: GraphBatch, geometry: Geometry, radial: jax.Array):
        """Kernels [N_t, K, I, J] from the a2ee2a edges into an atom to its main edges."""
        weights = to_tiers(self.cbf_aeint(radial), _present(batch.tiers).main)
        kernels = []
        for weight, triplets in zip(weights, _present(geometry.a2ee2a), strict=True):
            angles = jnp.where(triplets.mask[:, :, None], self.angles(triplets.cosine, -2), 0)
            kernels.append(product(weight, angles))
        ae_radial = self.radial(_present(geometry.a2ee2a_distance), "a2ee2a")
        return TripletBasis(radial=self.rbf_aeint(ae_radial), kernels=kernels)

    def edge_to_atom(self, batch: GraphBatch, geometry: Geometry, radial: jax.Array):
        """Kernels [N_t, I, K] from the main edges into an atom to the atom itself."""
        ae_radial = self.radial(_present(geometry.a2ee2a_distance), "a2ee2a")
        weights = to_tiers(self.cbf_eaint(ae_radial), _present(_present(batch.tiers).a2ee2a))
        kernels = []
        for weight, triplets in zip(weights, _present(geometry.a2ee2a), strict=True):
            angles = jnp.where(triplets.mask[..., None], self.angles(triplets.cosine), 0)
            kernels.append(jnp.einsum("njil,nkjl->nik", weight, angles))
        return TripletBasis(radial=self.rbf_eaint(radial), kernels=kernels)

    def atom_to_atom(self, geometry: Geometry) -> jax.Array:
        """Kernel [N, I, P] of atom pairs."""
        kernel = self.rbf_aint(self.radial(_present(geometry.a2a_distance), "a2a"))
        return kernel.swapaxes(1, 2)

    def quadruplets(self, batch: GraphBatch, geometry: Geometry, radial: jax.Array):
        """Circular basis at b, outer basis at a, dihedral basis between c and d."""
        angles, graph = _present(geometry.quadruplets), _present(batch.quadruplets)
        degrees = self.config.num_spherical
        at_b = self.cbf_qint(self.radial(angles.distance, "qint"))  # [Q, B, I, L]
        circular = jnp.einsum("qbil,qbkl->qbki", at_b, self.angles(angles.cosine_abd))
        weight = to_slots(self.sbf_qint(radial), batch.slots)  # [N, K, I, L * L]
        weight = take(weight, graph.atom, graph.inverse[:, None])
        weight = weight.reshape(*weight.shape[:-1], degrees, degrees)
        at_a = jnp.where(angles.mask_c[..., None], self.angles(angles.cosine_cab), 0)
        dihedral = self.angles(angles.cosine_dihedral, axis=-2)  # [Q, B, K, L, K]
        return QuadrupletBasis(
            radial=self.rbf_qint(radial),
            circular=jnp.where(angles.mask_d[..., None], circular, 0),
            outer=jnp.einsum("qkifl,qbkf->qkibl", weight, at_a),
            inner=jnp.where(angles.mask_cd[..., None, :], dihedral, 0),
        )


def _present(value):
    """The value; an interaction that is on without its graph is a mistake of the batch."""
    if value is None:
        raise ValueError(
            "The batch lacks an interaction graph that the GemNet-OC configuration uses: pack it "
            "with all interaction graphs, or switch the interaction off in the model's config."
        )
    return value
