"""inbatch.models."""
