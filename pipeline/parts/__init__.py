"""The method, a part a module: its row fields, its equations, its kernels."""
