"""How an axis is transformed: the choice for a CPU, and what little is known of others."""
