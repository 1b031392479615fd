"""Augmentation: one operation or family per module, with its CPU and GPU versions next to each other."""
