"""One dialect of the chat protocols into another: requests, answers and streams."""
