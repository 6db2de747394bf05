"""What runs inside a hospital: a task comes in, and only what `egress` lets out leaves."""
