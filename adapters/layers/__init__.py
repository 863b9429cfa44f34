"""The layer table: names, receptive fields, sizes."""
