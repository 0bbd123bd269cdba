"""What is stored of a run: records, files, tables; sealed, whole or not there."""
