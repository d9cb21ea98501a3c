"""A worker process of `atomjax.graphs.store_sizes`."""

from atomjax.graphs.store_sizes import work
from atomjax.structures.store.processes import serve

if __name__ == "__main__":
    serve(work, ValueError)
