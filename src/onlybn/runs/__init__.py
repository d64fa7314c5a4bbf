"""A run's folder: what training leaves there, what proves it, and the tables collected from it."""
