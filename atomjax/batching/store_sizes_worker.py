"""A worker process of `atomjax.batching.store_sizes`."""

from atomjax.batching.store_sizes import work
from atomjax.structures.store.processes import serve

if __name__ == "__main__":
    serve(work, ValueError)
