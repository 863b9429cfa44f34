"""The differentiable twin: every node of the graph as a torch module."""
