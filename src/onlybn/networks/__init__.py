"""From an architecture to what trains: its weights drawn, and which of them training moves."""
