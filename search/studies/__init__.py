"""The studies that come with lm-search, a TOML file each."""
