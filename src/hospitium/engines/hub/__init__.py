"""The hub: the engine between machines. Sites dial out by HTTPS to one URL and nothing else."""
