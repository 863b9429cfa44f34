"""The two executors of one graph, the devices they run on, and what makes them fast."""
