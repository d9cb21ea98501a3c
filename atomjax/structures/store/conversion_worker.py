"""A worker process of a conversion; see `atomjax.structures.store.conversion`."""

from atomjax.structures.store.conversion import main

if __name__ == "__main__":
    main()
