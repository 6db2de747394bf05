"""How tasks and updates travel between the coordinator and the sites."""
