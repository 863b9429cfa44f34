"""Gradient ascent in picture space: what every filter, class and neuron responds to."""
