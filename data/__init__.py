"""From files to batches: sources, the roles of columns, the order of rows, views and tokens."""
