"""What convscope computes on a normalized graph: two executors, ascent, attribution, comparison, pictures."""
