"""One cell, from the fit to its record: beta, metrics, sweeps, sparsity, transfer."""
