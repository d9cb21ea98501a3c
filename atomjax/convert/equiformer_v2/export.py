"""EquiformerV2 models of ours under fairchem's names, complete with their buffers.

The original registers its tables (grids on the sphere, orders of coefficients) in every module
that uses them, about 4,000 entries for eight blocks, and a strict load wants them all. The file
holds each table once.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from atomjax.convert.errors import ConvertError
from atomjax.convert.family import Exported
from atomjax.models import HeadConfig, backbone_config
from atomjax.models.bases import gaussian_centres
from atomjax.models.equiformer_v2 import EquiformerV2Config
from atomjax.models.equiformer_v2.harmonics import degrees, grid_matrices, orders
from atomjax.models.equiformer_v2.published_grid import published_grid_matrices

Tables = dict[str, np.ndarray]


def export_equiformer(
    model: Mapping[str, Any],
    heads: tuple[HeadConfig, ...],
    entries: Mapping[str, np.ndarray],
) -> Exported:
    """An EquiformerV2 under fairchem's names.

    Args:
        model: its config.
        heads: its head; none for the backbone alone.
        entries: fairchem's name → array, of all parameters.

    Raises:
        ConvertError: fairchem has no such head, or no such network.
    """
    config = backbone_config(model)
    assert isinstance(config, EquiformerV2Config)
    _check_built_in(config)
    for head in heads:
        wide = head.hidden_channels or head.force_hidden_channels
        if head.targets or head.forces == "conservative" or head.pooling != "sum" or wide:
            raise ConvertError(
                f"head {head.name!r} ({head.kind}, {head.forces}, {head.pooling}) has no "
                "counterpart in fairchem's EquiformerV2, whose head sums energies, predicts forces "
                "directly and is as wide as its backbone; export the backbone with --backbone-only"
            )
    forces = any(head.direct_forces for head in heads)
    tensors = dict(entries) | dict(buffers(config, energy=bool(heads), forces=forces))
    return Exported("fairchem", tensors, tuple(entries), _settings(config, forces))


def _check_built_in(config: EquiformerV2Config) -> None:
    """Refuses settings that fairchem's network fixes to another value."""
    built_in = {"num_gaussians": 600, "edge_direction": "source_minus_target"}
    for field, value in {**built_in, "envelope_exponent": None}.items():
        if (ours := getattr(config, field)) != value:
            raise ConvertError(
                f"the model has {field}={ours!r}; fairchem's EquiformerV2 has {value!r} built in "
                "and would compute something else"
            )


def buffers(
    config: EquiformerV2Config, *, energy: bool, forces: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and value of everything that the original registers beside its parameters."""
    lmax, mmax = config.lmax, config.mmax
    full, reduced = order_tables(lmax, lmax), order_tables(lmax, mmax)
    grids = {
        f"SO3_grid.{degree}.{order}": grid_tables(
            degree, order, config.grid_resolution, exact=config.exact_grid
        )
        for degree in range(lmax + 1)
        for order in range(lmax + 1)
    }
    rotation = {"SO3_rotation.0.mapping": full, "mappingReduced": reduced}
    convolutions = {f"so2_conv_{i}.mappingReduced": reduced for i in (1, 2)}
    attention = rotation | grids | convolutions
    owners: dict[str, dict[str, Tables]] = {
        "": rotation | grids,
        "edge_degree_embedding.": rotation,
    }
    linear = {"ga": ("proj",), "ffn": ("so3_linear_1", "so3_linear_2")}
    index = degrees(lmax)
    layers = []
    for block in range(config.num_blocks):
        owners |= {f"blocks.{block}.ga.": attention, f"blocks.{block}.ffn.": grids}
        layers += [f"blocks.{block}.{part}.{name}" for part in linear for name in linear[part]]
    if energy:
        owners["energy_block."] = grids
        layers += [f"energy_block.{name}" for name in linear["ffn"]]
    if forces:
        owners["force_block."] = attention
        layers += [f"force_block.{name}" for name in linear["ga"]]
    yield "distance_expansion.offset", gaussian_centres(config.num_gaussians, config.cutoff)
    for owner, tables in owners.items():
        for module, content in tables.items():
            yield from ((f"{owner}{module}.{name}", value) for name, value in content.items())
    yield from ((f"{layer}.expand_index", index) for layer in layers)
    # Every degree above 0 counts alike in a norm, however many coefficients it has.
    balance = (1 / (2 * index[1:] + 1) / lmax).astype(np.float32)[:, None]
    norms = [f"blocks.{b}.norm_{i}" for b in range(config.num_blocks) for i in (1, 2)]
    yield from ((f"{norm}.balance_degree_weight", balance) for norm in [*norms, "norm"])


@cache
def order_tables(lmax: int, mmax: int) -> Tables:
    """Degrees and orders of coefficients, and the permutation that sorts them by order."""
    kept = np.abs(orders(lmax)) <= mmax
    degree, order = degrees(lmax)[kept], orders(lmax)[kept]
    places, sizes = [], []
    for m in range(mmax + 1):
        plus = np.flatnonzero(order == m)
        sizes.append(len(plus))
        places += [plus] if m == 0 else [plus, np.flatnonzero(order == -m)]
    permutation = np.eye(len(order), dtype=np.float32)[np.concatenate(places)]
    return {
        "l_harmonic": degree,
        "m_harmonic": np.abs(order),
        "m_complex": order,
        "res_size": np.array([len(order)]),
        "to_m": permutation,
        "m_size": np.array(sizes),
    }


@cache
def grid_tables(lmax: int, mmax: int, resolution: int, *, exact: bool = True) -> Tables:
    """Matrices between coefficients and a grid on the sphere [points, points, I].

    Those that are not exact are the published ones, which a model with ``exact_grid=False`` has.
    """
    order = min(lmax, mmax)
    if exact:
        to_grid, from_grid = grid_matrices(lmax, order, resolution)
    else:
        to_grid, from_grid = published_grid_matrices(lmax, order)
    shape = (resolution, resolution, -1)
    mapping = {f"mapping.{name}": value for name, value in order_tables(lmax, lmax).items()}
    return {
        "to_grid_mat": to_grid.reshape(shape).astype(np.float32),
        "from_grid_mat": from_grid.T.reshape(shape).astype(np.float32),
        **mapping,
    }


def _settings(config: EquiformerV2Config, forces: bool) -> dict[str, Any]:
    """The config as fairchem has it."""
    return {
        "name": "equiformer_v2",
        "regress_forces": forces,
        "max_radius": config.cutoff,
        "max_num_elements": config.num_elements,
        "num_layers": config.num_blocks,
        "sphere_channels": config.channels,
        "attn_hidden_channels": config.attention_hidden,
        "num_heads": config.num_heads,
        "attn_alpha_channels": config.alpha_channels,
        "attn_value_channels": config.value_channels,
        "ffn_hidden_channels": config.ffn_hidden,
        "edge_channels": config.edge_channels,
        "lmax_list": [config.lmax],
        "mmax_list": [config.mmax],
        "grid_resolution": config.grid_resolution,
        "norm_type": "layer_norm_sh",
        "distance_function": "gaussian",
        "use_atom_edge_embedding": True,
        "share_atom_edge_embedding": False,
        "use_m_share_rad": False,
        "use_s2_act_attn": False,
        "use_attn_renorm": True,
        "use_gate_act": False,
        "use_grid_mlp": True,
        "use_sep_s2_act": True,
        "avg_num_nodes": config.avg_num_nodes,
        "avg_degree": config.avg_degree,
    }
