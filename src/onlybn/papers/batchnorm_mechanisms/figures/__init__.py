"""The figures: each module turns collected tables into numbers, a picture and a caption."""
