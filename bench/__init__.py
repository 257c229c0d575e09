"""What is claimed of speed and of statistics, measured; see README.md here."""
