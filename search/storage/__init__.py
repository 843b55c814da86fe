"""Everything that touches SQL or artifact files: opening a URL, the run queue, reporting, summaries."""
