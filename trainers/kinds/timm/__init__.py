"""The kind `timm`: timm networks trained on images."""
