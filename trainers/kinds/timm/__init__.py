"""The kind `timm`: a network of timm trained on images."""
