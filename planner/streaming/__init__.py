"""One component's weights on a device, whole or block by block."""
