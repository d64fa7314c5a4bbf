"""Functions for the rules and the command line: paths and targets, demands and costs, plan and status."""
