"""Whether a farm fits its machines: GPU memory, host memory, processors, ports and power, before anything starts."""
