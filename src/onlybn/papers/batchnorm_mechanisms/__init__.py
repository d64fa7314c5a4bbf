"""What BatchNorm does: Ioffe and Szegedy 2015, Santurkar et al. 2018, and an essay on both."""
