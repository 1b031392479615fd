"""Features without training: handcrafted, embeddings, perceptual hashes, extraction from clips."""
