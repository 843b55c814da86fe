"""What hears of a study's evaluations as they come: files, and services that draw curves."""
