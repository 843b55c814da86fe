"""Torch modules, one file each, and the registry that names them; imports torch and none of our packages."""
