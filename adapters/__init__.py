"""Adapters: any model file or live object becomes a `Graph`. The way in is `load.load`."""
