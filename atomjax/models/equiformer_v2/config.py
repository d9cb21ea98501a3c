"""Sizes of EquiformerV2 (Liao et al., 2024, arXiv:2306.12059, and the configs of fairchem v1)."""

from dataclasses import dataclass
from typing import Literal, get_args

from atomjax.models.equiformer_v2.published_grid import RESOLUTION as PUBLISHED_RESOLUTION
from atomjax.models.precision import Precision, check_precision

EdgeDirection = Literal["source_minus_target", "target_minus_source"]


@dataclass(frozen=True, kw_only=True)
class EquiformerV2Config:
    """Hyperparameters of the backbone and its heads. Defaults are those of the 31M model.

    Attributes:
        num_blocks: transformer blocks.
        lmax: highest degree l of the features.
        mmax: highest order |m| of the messages, in the frame of their edge.
        channels: width C of the features.
        attention_hidden: width of the messages between the two SO(2) convolutions.
        num_heads: attention heads H.
        alpha_channels: width of the input to the attention weight of a head.
        value_channels: width of a head's values.
        ffn_hidden: width inside the feed-forward networks.
        edge_channels: width of the radial networks and of the elements' edge embeddings.
        num_elements: rows of the embeddings (row Z, so Z < num_elements).
        num_gaussians: number of Gaussians of the radial basis.
        cutoff: Å, where the last Gaussian is centred, and where the envelope ends. A training from
            random weights takes it from its graph; what stands here is the published models'.
        envelope_exponent: exponent of a polynomial envelope on the messages, which makes energies
            smooth where an edge leaves the graph at ``cutoff``; 5 in a training from random
            weights. None, as in the published models, is no envelope: energies are discontinuous
            there.
        grid_resolution: points of the sphere's grid along each angle, even; the higher, the
            smaller the rotation error, the higher the cost.
        exact_grid: compute the grid exactly. False takes the float32 values that the published
            checkpoints hold, to the last bit, for comparisons to more than six digits.
        edge_direction: the vector of the frames. The published checkpoints were trained with
            "source_minus_target"; efficient-atom feeds them "target_minus_source". The network is
            not parity equivariant, so the sign matters.
        avg_degree: sums over edges in the input embedding are divided by it.
        avg_num_nodes: atoms' contributions that a head sums up are divided by it.
        dropout: rate on the attention weights, in training.
        drop_path: rate at which a structure skips a layer, in training.
        edge_dropout: rate at which the loader dropped edges; the input embedding's sum over edges
            is divided by 1 - rate in training.
        edge_chunk: most edges whose messages are computed at once; the fewer, the less memory it
            takes. None is 128 on a CPU, so that they stay in its caches, and 4096 elsewhere.
        precision: arithmetic of products: "float32" or "tensorfloat32"; None takes JAX's own, which
            on recent GPUs is tensorfloat32. Frames are always exact. "bfloat16" is refused:
            features that are turned into the frame of every edge and back lose their equivariance
            in it.
    """

    num_blocks: int = 8
    lmax: int = 4
    mmax: int = 2
    channels: int = 128
    attention_hidden: int = 64
    num_heads: int = 8
    alpha_channels: int = 64
    value_channels: int = 16
    ffn_hidden: int = 128
    edge_channels: int = 128
    num_elements: int = 90
    num_gaussians: int = 600
    cutoff: float = 12.0
    envelope_exponent: int | None = None
    grid_resolution: int = 18
    exact_grid: bool = True
    edge_direction: EdgeDirection = "source_minus_target"
    avg_degree: float = 23.395238876342773
    avg_num_nodes: float = 77.81317
    dropout: float = 0.1
    drop_path: float = 0.1
    edge_dropout: float = 0.0
    edge_chunk: int | None = None
    precision: Precision | None = None

    def __post_init__(self):
        """Checks values that would fail late or in silence.

        Raises:
            ValueError: on a value out of range; names the field.
        """
        if not 1 <= self.mmax <= self.lmax:
            raise ValueError(f"mmax is {self.mmax}: give 1 to lmax ({self.lmax})")
        for name in ("avg_degree", "avg_num_nodes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: sums are divided by it")
        if self.edge_direction not in get_args(EdgeDirection):
            raise ValueError(
                f"edge_direction is {self.edge_direction!r}: give one of {get_args(EdgeDirection)}"
            )
        if self.grid_resolution % 2 or self.grid_resolution <= 2 * self.lmax:
            raise ValueError(
                f"grid_resolution is {self.grid_resolution}: give an even number above 2 lmax "
                f"({2 * self.lmax}), below which the grid cannot hold the features"
            )
        if not self.exact_grid and self.grid_resolution != PUBLISHED_RESOLUTION:
            raise ValueError(
                f"exact_grid=False takes the published grid, whose grid_resolution is "
                f"{PUBLISHED_RESOLUTION}, not {self.grid_resolution}: set exact_grid=True"
            )
        check_precision(self.precision)
        if self.precision == "bfloat16":
            raise ValueError(
                'precision "bfloat16" is for GemNet-OC; EquiformerV2 turns features into the frame '
                'of every edge and back, which 8 bits do not bear: give "tensorfloat32"'
            )
        if self.edge_chunk is not None and self.edge_chunk < 1:
            raise ValueError(f"edge_chunk is {self.edge_chunk}: give at least 1")


EQUIFORMER_V2_SIZES: dict[str, EquiformerV2Config] = {
    # Small enough for tests and for a demonstration on two CPU cores.
    "equiformer_v2_tiny": EquiformerV2Config(
        num_blocks=2,
        lmax=3,
        channels=16,
        attention_hidden=16,
        num_heads=2,
        alpha_channels=8,
        value_channels=8,
        ffn_hidden=16,
        edge_channels=16,
    ),
    "equiformer_v2_31M": EquiformerV2Config(),
    "equiformer_v2_83M": EquiformerV2Config(num_blocks=12, lmax=6, drop_path=0.05),
    "equiformer_v2_121M": EquiformerV2Config(num_blocks=18, lmax=6),
    "equiformer_v2_153M": EquiformerV2Config(num_blocks=20, lmax=6, mmax=3),
}
