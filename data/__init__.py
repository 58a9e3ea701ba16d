"""inbatch.data."""
