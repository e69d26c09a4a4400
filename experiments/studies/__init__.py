"""The scripts behind the tables and pictures of docs/ and experiments/results/."""
