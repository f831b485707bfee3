"""How a step uses the device: plan, memory, CUDA graphs."""
