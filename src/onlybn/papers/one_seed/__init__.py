"""One random network, many tasks: what the discussion of Only BatchNorm suggests, measured (ours)."""
