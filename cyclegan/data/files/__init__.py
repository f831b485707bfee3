"""Image files, tar files and the folders that hold them."""
