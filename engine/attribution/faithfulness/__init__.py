"""Whether a heatmap is true to the model: measures, ranking, sanity checks."""
