"""Torch modules, one file each, and the registry that names them; this room imports torch and nothing of ours."""
