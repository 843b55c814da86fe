"""What starts workers: this machine today, other engines through the same protocol."""
