"""The kinds of models; each is one module with its settings, training and prediction."""
