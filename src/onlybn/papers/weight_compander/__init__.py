"""Cakaj, Mehnert, Yang, *Weight Compander: A Simple Weight Reparameterization for Regularization*, 2023."""
