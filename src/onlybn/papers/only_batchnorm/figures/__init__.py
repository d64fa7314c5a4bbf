"""The figures: each turns collected tables into numbers, numbers into a picture, and says what to see.

A figure is a module with `numbers`, `draw` and `caption`, or one of a module's instances with these methods.
Appendices reuse the main text's figures: the study says which networks a figure shows.
"""
