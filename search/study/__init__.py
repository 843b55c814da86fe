"""A study on paper: from its file to its definition, its cells and its planned trials."""
