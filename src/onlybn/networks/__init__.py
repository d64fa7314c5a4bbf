"""From an architecture to a network ready to train: weights drawn, and trainable parameters chosen."""
