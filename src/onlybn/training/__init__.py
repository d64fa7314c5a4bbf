"""The training engine: one loop for every study, its steps, its optimiser and its checkpoints."""
