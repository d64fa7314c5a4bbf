"""A run's folder: the files that training writes, their verification, and the tables collected from them."""
