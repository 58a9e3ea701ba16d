"""Text to vectors: backbones, adapters, pooling, heads, the `Encoder` that joins them, and its folder on disk."""
