"""The least of GemNet-OC that still has all its parts, for tests where size is not the point."""

# Overrides of a model's config: no dense layers beside those that connect the parts.
NO_LAYERS = {
    "num_before_skip": 0,
    "num_after_skip": 0,
    "num_concat": 0,
    "num_atom": 0,
    "num_output_afteratom": 0,
    "num_atom_emb_layers": 0,
    "num_global_out_layers": 0,
}
