"""Augmentation, one operation or family per module, its CPU and GPU versions next to each other."""
