"""inbatch.experiments: the rows of papers as YAML files, and the commands that evaluate, compare and measure."""
