"""Lightning callbacks of inbatch."""
