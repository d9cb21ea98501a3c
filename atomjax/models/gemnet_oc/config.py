"""Sizes of GemNet-OC (JMP, Table 17)."""

from dataclasses import dataclass

from atomjax.models.precision import Precision, check_precision


@dataclass(frozen=True, kw_only=True)
class GemNetOCConfig:
    """Hyperparameters of the backbone. Defaults are those of JMP-S.

    Attributes:
        num_blocks: interaction blocks.
        num_spherical: degrees l < num_spherical of the circular and spherical bases.
        num_radial: Gaussians of the radial basis.
        emb_size_atom: width of atom embeddings.
        emb_size_edge: width of edge embeddings.
        emb_size_trip_in: width of an edge message before the triplet bilinear layer.
        emb_size_trip_out: and after it.
        emb_size_quad_in: width of an edge message before the quadruplet bilinear layer.
        emb_size_quad_out: and after it.
        emb_size_aint_in: width of an atom message before the pair bilinear layer.
        emb_size_aint_out: and after it.
        emb_size_rbf: width of the shared radial embedding.
        emb_size_cbf: width of the shared circular (one angle) embedding.
        emb_size_sbf: width of the shared spherical (two angles) embedding.
        num_before_skip: residual layers on the merged messages before they join the edges.
        num_after_skip: residual layers on the edges after that.
        num_concat: residual layers after the atoms were concatenated to the edges.
        num_atom: residual layers of each atom update and of the force output.
        num_output_afteratom: residual layers of each energy output after the atoms were added.
        num_atom_emb_layers: residual layers on the atoms after the interactions.
        num_global_out_layers: residual layers after the outputs of all blocks were concatenated.
        num_elements: rows of the atom embedding (row Z - 1).
        rbf_cutoff: Å at which the radial basis of main edges ends, whatever the graph's cutoff. A
            training from random weights takes it, and the next three, from its graphs; what stands
            here is JMP's.
        rbf_cutoff_a2ee2a: Å, the same of edges of the atom-to-edge graph; None: ``rbf_cutoff``.
        rbf_cutoff_qint: Å, of the middle edges of quadruplets; None: ``rbf_cutoff``.
        rbf_cutoff_a2a: Å, of edges of the atom-to-atom graph; None: ``rbf_cutoff``.
        envelope_exponent: exponent of the polynomial envelope.
        quad_interaction: use quadruplets (dihedral angles).
        atom_edge_interaction: use atom-to-edge messages.
        edge_atom_interaction: use edge-to-atom messages.
        atom_interaction: use atom-to-atom messages.
        edge_output: compute edge features, which direct forces need.
        dropout: rate after every dense layer, in training.
        edge_dropout: rate at which the loader dropped edges; the sums over edges of the energy
            outputs are divided by 1 - rate in training.
        precision: arithmetic of products and features: "float32", "tensorfloat32" or "bfloat16",
            see ``atomjax.models.precision``; None takes JAX's own precision of products, which on
            recent GPUs is that of tensorfloat32.
        remat: keep only what goes from block to block for the backward pass, and compute the
            inside of a block again: a third more work for a fraction of the memory.
    """

    num_blocks: int = 4
    num_spherical: int = 7
    num_radial: int = 128
    emb_size_atom: int = 256
    emb_size_edge: int = 512
    emb_size_trip_in: int = 64
    emb_size_trip_out: int = 64
    emb_size_quad_in: int = 32
    emb_size_quad_out: int = 32
    emb_size_aint_in: int = 64
    emb_size_aint_out: int = 64
    emb_size_rbf: int = 16
    emb_size_cbf: int = 16
    emb_size_sbf: int = 32
    num_before_skip: int = 2
    num_after_skip: int = 2
    num_concat: int = 1
    num_atom: int = 3
    num_output_afteratom: int = 3
    num_atom_emb_layers: int = 2
    num_global_out_layers: int = 2
    num_elements: int = 120
    rbf_cutoff: float = 12.0
    rbf_cutoff_a2ee2a: float | None = None
    rbf_cutoff_qint: float | None = None
    rbf_cutoff_a2a: float | None = None
    envelope_exponent: int = 5
    quad_interaction: bool = True
    atom_edge_interaction: bool = True
    edge_atom_interaction: bool = True
    atom_interaction: bool = True
    edge_output: bool = True
    dropout: float = 0.0
    edge_dropout: float = 0.0
    precision: Precision | None = None
    remat: bool = False

    def __post_init__(self):
        """Raises ValueError for an unknown precision."""
        check_precision(self.precision)

    def basis_cutoff(self, graph: str) -> float:
        """Å where the radial basis of one of the four graphs ends."""
        own = None if graph == "main" else getattr(self, f"rbf_cutoff_{graph}")
        return self.rbf_cutoff if own is None else own


GEMNET_OC_SIZES: dict[str, GemNetOCConfig] = {
    # Small enough for tests and for a demonstration on two CPU cores.
    "gemnet_oc_tiny": GemNetOCConfig(
        num_blocks=2,
        num_radial=16,
        emb_size_atom=32,
        emb_size_edge=48,
        emb_size_trip_in=16,
        emb_size_trip_out=16,
        emb_size_quad_in=8,
        emb_size_quad_out=8,
        emb_size_aint_in=16,
        emb_size_aint_out=16,
        emb_size_rbf=8,
        emb_size_cbf=8,
        emb_size_sbf=16,
    ),
    "gemnet_oc_small": GemNetOCConfig(),
    "gemnet_oc_large": GemNetOCConfig(
        num_blocks=6,
        emb_size_edge=1024,
        emb_size_trip_out=128,
        emb_size_quad_in=64,
        emb_size_rbf=32,
        emb_size_sbf=64,
        num_concat=4,
    ),
}
