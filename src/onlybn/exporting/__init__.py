"""Finished networks for other programs: whole, with BatchNorm folded into convolutions, or pruned."""
