"""Instructions -> tokens. Both systems read the instruction, so this package lies beneath both."""
