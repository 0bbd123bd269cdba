"""The tests; a package so that `tests.small` means this folder wherever pytest is started."""
