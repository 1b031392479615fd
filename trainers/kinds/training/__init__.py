"""Gradient training shared by all kinds of networks: the step, the loop of a fold, prediction."""
