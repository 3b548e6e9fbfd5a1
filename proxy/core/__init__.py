"""The pure middle: no sockets, clock, randomness, logging or event loop; all are arguments."""
