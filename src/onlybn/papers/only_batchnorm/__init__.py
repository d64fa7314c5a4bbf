"""Training BatchNorm and Only BatchNorm (Frankle, Schwab, Morcos; ICLR 2021)."""
