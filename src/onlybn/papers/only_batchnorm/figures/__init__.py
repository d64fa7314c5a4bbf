"""The figures: each module turns collected tables into numbers, numbers into a picture, and says what to see.

Appendix figures reuse the modules of the main part for other networks: which networks a figure shows is for
the study to say.
"""
