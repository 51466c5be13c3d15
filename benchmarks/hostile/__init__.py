"""`python -m benchmarks hostile`: what somebody may send, and how it is answered."""
