"""Figures of one random network with many tasks."""
