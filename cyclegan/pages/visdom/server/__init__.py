"""Our Visdom server and the files that browsers ask for."""
