"""What two plans do differently: policies, moves, peaks, the picture. No torch."""
