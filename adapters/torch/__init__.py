"""Torch modules and files."""
