"""Training by gradient steps, shared by all kinds that are networks: the step, the loop of a fold, prediction."""
