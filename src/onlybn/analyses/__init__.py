"""What is measured on a finished run."""
