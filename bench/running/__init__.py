"""Cells in the making: where they are computed, planned, estimated and counted."""
