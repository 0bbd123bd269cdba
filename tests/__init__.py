"""The tests; a package so that `tests.tiny` means this folder wherever pytest is started."""
