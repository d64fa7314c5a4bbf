"""The figures: each module turns collected tables into numbers, and numbers into a picture."""
