"""Networks and what trains them: backbones, input stem, losses, optimisers, test-time augmentation."""
