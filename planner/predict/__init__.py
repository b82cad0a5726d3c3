"""What a call will take, told before it runs: memory and seconds, from a trace and a card. No torch."""
