"""GPT-2s whose circuit is known exactly, because their weights are wired by hand from a seed."""
