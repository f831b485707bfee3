"""The pages of runs in a browser, and the commands that show and list runs."""
