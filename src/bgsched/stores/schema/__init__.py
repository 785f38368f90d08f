"""The SQL of the schemas, one file for each step of each database."""
