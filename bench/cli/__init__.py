"""The command line, `python -m bench`: a file for each group of commands."""
