"""What the rules ask: paths and targets, demands and costs, plan and status."""
