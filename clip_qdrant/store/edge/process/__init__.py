"""An embedded store that several processes use: one has it open and answers the calls of the others over a socket."""
