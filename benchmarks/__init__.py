"""What a relay costs per streamed event and per request, measured against nginx in one run.

`python -m benchmarks.run` runs everything, `python -m benchmarks.run --quick` compares commits.
All traffic stays on the loopback interface. Nothing here is imported by the relay.
"""
