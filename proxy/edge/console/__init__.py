"""The console: pages and admin API in a process of its own, which changes nothing by itself."""
