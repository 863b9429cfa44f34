"""The command line: arguments in, progress and paths out. No algorithm lives here, and nobody imports it."""
