"""inbatch.losses."""
