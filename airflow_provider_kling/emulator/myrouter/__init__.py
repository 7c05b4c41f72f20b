"""MyRouter's dialect: its models, bodies, answers and errors."""
