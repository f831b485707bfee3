"""A run's index.html: one page that needs no server and no network."""
