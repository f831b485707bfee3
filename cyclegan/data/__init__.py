"""Data: two folders of images that do not pair up, as an endless stream of batches."""
