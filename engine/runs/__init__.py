"""A run per verb: ``run(graph, inputs, options, folder, command=..., on_event=...)`` gives its `Result`.

A run holds what the command line and Python share: streaming the inputs, going on where an earlier run stopped,
ranking, and writing the folder. It prints nothing; what happens on the way it tells by `events`.
"""
