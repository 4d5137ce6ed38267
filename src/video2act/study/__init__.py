"""A study: what its yaml file asks for, as jobs, and what they found, as tables and plots."""
