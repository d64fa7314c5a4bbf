"""The tables: each module turns collected tables into numbers, and numbers into what is shown."""
