"""Results to files and pages: arrays in, PNG, JSON, NPZ and self-contained HTML out."""
