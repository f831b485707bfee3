"""From bytes on a drive to images."""
