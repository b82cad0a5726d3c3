"""What a card's file holds, measured on a device: link, rates, memory. Each function takes the device."""
