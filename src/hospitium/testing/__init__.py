"""Fakes, phantoms and simulated federations, shipped to users for their own tests."""
