"""``python -m convscope``: the command line."""

from .cli.main import main

main()
