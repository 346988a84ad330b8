"""`python -m autopeft`: the command line."""

from autopeft.cli import main

main()
