"""Where compiled kernels are found, and compiling them before they are needed."""
