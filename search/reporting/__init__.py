"""What is said about results: tables, verdicts, the report page, and what the dashboard shows."""
