"""Features of images that need no training: handcrafted, embeddings, perceptual hashes."""
