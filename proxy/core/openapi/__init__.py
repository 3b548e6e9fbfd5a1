"""What is served, as an OpenAPI 3.1 document made from one table of operations."""
