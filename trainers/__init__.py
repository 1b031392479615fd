"""Train models on images and clips, and predict out-of-fold and test rows."""
