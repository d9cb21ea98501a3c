"""A worker process of `atomjax.batching.store_sizes`."""

from atomjax.batching.store_sizes import work
from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.subprocesses import serve

if __name__ == "__main__":
    keep_freed_memory()
    serve(work, ValueError)
