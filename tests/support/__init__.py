"""What several tests need: small networks, runs, servers and files."""
