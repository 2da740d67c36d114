; What the parser could not read, and what it had to imagine.
(ERROR) @error
(MISSING) @missing
