"""Results for readers: tables, verdicts, the report page, the status text and the progress display."""
