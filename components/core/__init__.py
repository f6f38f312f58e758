"""Pure meaning: words, states, records and formulas. No I/O, no clock, no framework."""
